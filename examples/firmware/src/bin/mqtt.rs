//! What a client of MQTT takes in kcpq's place: the work of `footprint` by `minimq`, over the same network stack and TCP.
//! Argument: `port`, at which a broker of MQTT 5 listens.

#![no_std]
#![no_main]

use core::fmt::Write as _;

use embassy_net::tcp::TcpSocket;
use embassy_net::{Config, IpAddress, IpEndpoint, Ipv4Address, Ipv4Cidr, Stack, StackResources, StaticConfigV4};
use embassy_time::{Duration, with_timeout};
use kcpq_firmware::mps2;
use kcpq_firmware::mps2::args::Args;
use kcpq_firmware::mps2::exec::Executor;
use kcpq_firmware::mps2::lan9118::Lan9118;
use minimq::{Buffers, ConfigBuilder, Publication, QoS, Session, TopicFilter};
use static_cell::{ConstStaticCell, StaticCell};

/// Silent, as `footprint` is.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    mps2::exit(false)
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

fn report(ok: bool) -> ! {
    let (used, size) = mps2::stack::high_water();
    if let Ok(mut out) = mps2::stdout() {
        let _ = writeln!(out, "stack: {used} of {size} bytes");
    }
    mps2::exit(ok)
}

/// Exchanges a hundred messages with itself over a broker.
#[embassy_executor::task]
async fn work(stack: Stack<'static>, broker: IpEndpoint) {
    report(exchange(stack, broker).await.is_some())
}

async fn exchange(stack: Stack<'static>, broker: IpEndpoint) -> Option<()> {
    // Of the sizes that the socket of `footprint` has.
    static RX: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    static TX: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    static INCOMING: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
    static OUTGOING: ConstStaticCell<[u8; 1024]> = ConstStaticCell::new([0; 1024]);
    stack.wait_config_up().await;
    let mut socket = TcpSocket::new(stack, RX.take(), TX.take());
    socket.connect(broker).await.ok()?;
    let config = ConfigBuilder::new(Buffers::new(INCOMING.take(), OUTGOING.take())).client_id("footprint").ok()?;
    let mut session = Session::new(config);
    let mut connection = session.connect(socket).await.ok()?;
    connection.subscribe(&[TopicFilter::new("footprint/+")], &[]).await.ok()?;
    for number in 0..100_u8 {
        let payload = [number; 64];
        let message = Publication::bytes("footprint/a", &payload).qos(QoS::AtLeastOnce);
        connection.publish(message).await.ok()?;
        let got = with_timeout(Duration::from_secs(5), connection.recv()).await.ok()?.ok()?;
        if got.payload() != payload {
            return None;
        }
    }
    Some(())
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
    let broker = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::new(10, 0, 2, 2)), args.num("port", 1883) as u16);
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    EXECUTOR.init(Executor::new()).run(|spawner| {
        let spawned = network(runner)
            .map(|task| spawner.spawn(task))
            .and_then(|()| work(stack, broker).map(|task| spawner.spawn(task)));
        if spawned.is_err() {
            mps2::exit(false);
        }
    })
}
