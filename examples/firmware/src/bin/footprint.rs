//! What the client costs: this program with the feature `client`, minus itself without. Both have the same network stack,
//! socket and buffers; without the client it sends and receives plain datagrams. Argument: `port`.

#![no_std]
#![no_main]

use core::fmt::Write as _;

#[cfg(feature = "defmt")]
use defmt_semihosting as _;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Config, IpAddress, IpEndpoint, Ipv4Address, Ipv4Cidr, Stack, StackResources, StaticConfigV4};
use embassy_time::{Duration, with_timeout};
#[cfg(feature = "client")]
use kcpq_firmware::app::{Client, Memory, Runner};
use kcpq_firmware::mps2;
use kcpq_firmware::mps2::args::Args;
use kcpq_firmware::mps2::exec::Executor;
use kcpq_firmware::mps2::lan9118::Lan9118;
use static_cell::{ConstStaticCell, StaticCell};

/// Silent: to print what happened costs more than what is measured here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    mps2::exit(false)
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

fn socket(stack: Stack<'static>) -> UdpSocket<'static> {
    static RX_META: ConstStaticCell<[PacketMetadata; 4]> = ConstStaticCell::new([PacketMetadata::EMPTY; 4]);
    static TX_META: ConstStaticCell<[PacketMetadata; 4]> = ConstStaticCell::new([PacketMetadata::EMPTY; 4]);
    static RX: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    static TX: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    UdpSocket::new(stack, RX_META.take(), RX.take(), TX_META.take(), TX.take())
}

fn report(ok: bool) -> ! {
    let (used, size) = mps2::stack::high_water();
    if let Ok(mut out) = mps2::stdout() {
        let _ = writeln!(out, "stack: {used} of {size} bytes");
    }
    mps2::exit(ok)
}

/// Exchanges a hundred messages with itself over a server, or as many datagrams with an echo.
#[cfg(feature = "client")]
#[embassy_executor::task]
async fn work(client: Client) {
    if !more(client).await {
        report(false);
    }
    let Ok(mut subscription) = client.subscribe("footprint.*").await else { report(false) };
    for number in 0..100_u8 {
        let sent = client.publish("footprint.a", &[number; 64]).await;
        let got = with_timeout(Duration::from_secs(5), subscription.next(|message| message.payload() == [number; 64]));
        if sent.is_err() || !matches!(got.await, Ok(Ok(true))) {
            report(false);
        }
    }
    report(client.state() == kcpq_embassy::State::Up { native: true })
}

/// What else a client does of which the price is measured; true if it went well.
#[cfg(all(
    feature = "client",
    not(any(feature = "will", feature = "request", feature = "confirm", feature = "queue", feature = "lanes"))
))]
async fn more(_: Client) -> bool {
    true
}

#[cfg(feature = "will")]
async fn more(client: Client) -> bool {
    let will = kcpq_embassy::Will { subject: "gone.footprint", payload: b"gone", retain: true };
    client.set_will(will).is_ok()
}

#[cfg(feature = "request")]
async fn more(client: Client) -> bool {
    let Ok(mut inbox) = client.inbox(7).await else { return false };
    inbox.request("nobody", b"there?", |_| ()).await == Err(kcpq_embassy::RequestError::NoResponders)
}

#[cfg(feature = "confirm")]
async fn more(client: Client) -> bool {
    let routed = client.publish("nobody", b"there?").confirmed().await;
    // The server has no store.
    let stored = client.publish("footprint", b"stays").stored().id("1").await;
    routed == Ok(0) && stored == Err(kcpq_embassy::StoreError::Unsupported)
}

#[cfg(feature = "queue")]
async fn more(client: Client) -> bool {
    client.subscribe_queue("jobs", "workers").await.is_ok()
}

#[cfg(feature = "lanes")]
async fn more(client: Client) -> bool {
    use kcpq_embassy::{Lane, Subscribing};
    let wanted = Subscribing { lane: Some(Lane::URGENT), ..Default::default() };
    let Ok(mut state) = client.subscribe_as("state", &wanted).await else { return false };
    let bulk = client.publish("bulk", &[7; 400]).lane(Lane::BULK).await;
    let sent = client.publish("state", b"on").lane(Lane::URGENT).latest().await;
    bulk.is_ok() && sent.is_ok() && state.next(|message| message.payload() == b"on").await == Ok(true)
}

#[cfg(feature = "client")]
#[embassy_executor::task]
async fn kcpq(stack: Stack<'static>, server: IpEndpoint, mut runner: Runner) {
    stack.wait_config_up().await;
    if let Ok(mut udp) = kcpq_embassy::net::Udp::new(socket(stack), server) {
        runner.run(&mut udp, &mut kcpq_embassy::time::Timer).await;
    }
}

#[cfg(not(feature = "client"))]
#[embassy_executor::task]
async fn work(stack: Stack<'static>, server: IpEndpoint) {
    stack.wait_config_up().await;
    let mut socket = socket(stack);
    static BUFFER: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
    let buffer = BUFFER.take();
    if socket.bind(0).is_err() {
        report(false);
    }
    for number in 0..100_u8 {
        let sent = socket.send_to(&[number; 64], server).await;
        let got = with_timeout(Duration::from_secs(5), socket.recv_from(buffer)).await;
        if sent.is_err() || !matches!(got, Ok(Ok((64, _)))) || buffer[..64] != [number; 64] {
            report(false);
        }
    }
    report(true)
}

#[cfg(all(feature = "client", not(feature = "sealed")))]
fn start(memory: &'static mut Memory) -> (Client, Runner) {
    let (client, runner) = memory.split(&kcpq_embassy::Config::default(), kcpq_embassy::time::now, 1);
    #[cfg(feature = "lanes")]
    {
        static LANES: ConstStaticCell<kcpq_embassy::LaneMemory<2, 512, 4>> =
            ConstStaticCell::new(kcpq_embassy::LaneMemory::new());
        if client.lend_lanes(LANES.take()).is_err() {
            report(false);
        }
    }
    #[cfg(feature = "confirm")]
    {
        static CONFIRMS: ConstStaticCell<kcpq_embassy::ConfirmMemory<2>> =
            ConstStaticCell::new(kcpq_embassy::ConfirmMemory::new());
        if client.lend_confirms(CONFIRMS.take()).is_err() {
            report(false);
        }
    }
    (client, runner)
}

/// With keys for this measurement: a firmware in earnest has its own, and 32 bytes from a generator of random numbers.
#[cfg(feature = "sealed")]
fn start(memory: &'static mut Memory) -> (Client, Runner) {
    use kcpq_embassy::{PrivateKey, Trust};
    let (key, server) = (PrivateKey::from_bytes(&[2; 32]), PrivateKey::from_bytes(&[1; 32]).public());
    let trust = Trust::Identity { key, server };
    let config = kcpq_embassy::Config::default();
    match memory.split_sealed(&config, kcpq_embassy::time::now, 1, trust, &[3; 32]) {
        Ok(parts) => parts,
        Err(_) => report(false),
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    mps2::stack::guard();
    mps2::time::init();
    let args = Args::read();
    let Ok(nic) = Lan9118::new() else { mps2::exit(false) };
    let config = Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 2, 15), 24),
        gateway: None,
        dns_servers: heapless::Vec::new(),
    });
    static STACK: StaticCell<StackResources<3>> = StaticCell::new();
    let (stack, runner) = embassy_net::new(nic, config, STACK.init(StackResources::new()), 1);
    let server = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::new(10, 0, 2, 2)), args.num("port", 4000) as u16);
    #[cfg(feature = "client")]
    let (client, client_runner) = {
        static KCPQ: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
        start(KCPQ.take())
    };
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    EXECUTOR.init(Executor::new()).run(|spawner| {
        let spawned = network(runner).map(|task| spawner.spawn(task));
        #[cfg(feature = "client")]
        let spawned = spawned
            .and_then(|()| kcpq(stack, server, client_runner).map(|task| spawner.spawn(task)))
            .and_then(|()| work(client).map(|task| spawner.spawn(task)));
        #[cfg(not(feature = "client"))]
        let spawned = spawned.and_then(|()| work(stack, server).map(|task| spawner.spawn(task)));
        if spawned.is_err() {
            mps2::exit(false);
        }
    })
}
