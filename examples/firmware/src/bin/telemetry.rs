//! Telemetry from QEMU's `mps2-an385`. Arguments: `port` (4000), `id` (kitchen), `rate` (100 a second), `count` (0: until
//! a `stop` command), `seed`; with the feature `confirm` `store` (1: each reading is stored by a JetStream behind the server
//! before the next one is taken). Ends with status 0 if everything that was published went to the server.

#![no_std]
#![no_main]

#[cfg(feature = "defmt")]
use defmt_semihosting as _;
use embassy_executor::Spawner;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Config, IpAddress, IpEndpoint, Ipv4Address, Ipv4Cidr, Stack, StackResources, StaticConfigV4};
use kcpq_embassy::{Event, net, time};
use kcpq_firmware::app::{self, Client, Memory, Runner};
use kcpq_firmware::mps2::args::Args;
use kcpq_firmware::mps2::exec::Executor;
use kcpq_firmware::mps2::lan9118::Lan9118;
use kcpq_firmware::{mps2, say};
use static_cell::{ConstStaticCell, StaticCell};

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    use core::fmt::Write as _;
    // Not to standard output, which may carry defmt's frames.
    if let Ok(mut err) = mps2::stderr() {
        let _ = writeln!(err, "{info}");
    }
    mps2::exit(false)
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

/// The client's background: datagrams and timers.
#[embassy_executor::task]
async fn kcpq(stack: Stack<'static>, server: IpEndpoint, mut runner: Runner) {
    static RX_META: ConstStaticCell<[PacketMetadata; 8]> = ConstStaticCell::new([PacketMetadata::EMPTY; 8]);
    static TX_META: ConstStaticCell<[PacketMetadata; 4]> = ConstStaticCell::new([PacketMetadata::EMPTY; 4]);
    static RX: ConstStaticCell<[u8; 4096]> = ConstStaticCell::new([0; 4096]);
    static TX: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    stack.wait_config_up().await;
    let socket = UdpSocket::new(stack, RX_META.take(), RX.take(), TX_META.take(), TX.take());
    match net::Udp::new(socket, server) {
        Ok(mut udp) => runner.run(&mut udp, &mut time::Timer).await,
        Err(_) => say!("no UDP port"),
    }
}

#[embassy_executor::task]
async fn telemetry(client: Client, id: &'static str, rate: u32, count: u32, store: bool) {
    #[cfg(feature = "confirm")]
    if store {
        let archived = kcpq_firmware::archive::archive(client, id, rate, count).await;
        say!("telemetry: {} stored, {} in doubt for a while", archived.stored, archived.doubts);
        if let Some(why) = archived.end {
            say!("the next one is not: {}", why);
        }
        return;
    }
    let _ = store;
    let published = app::telemetry(client, id, rate, count).await;
    say!("telemetry: {} published", published);
}

/// Ends the program when it is told to.
#[embassy_executor::task]
async fn commands(client: Client, id: &'static str) {
    let ok = app::commands(client, id).await;
    let stats = client.stats();
    say!(
        "done: in doubt {}, overflow {}, unread {}, retransmitted {}, reconnects {}",
        stats.client.dropped_in_doubt,
        stats.client.dropped_overflow,
        stats.unread,
        stats.transport.retransmitted,
        stats.client.reconnects
    );
    let (used, size) = mps2::stack::high_water();
    say!("stack: {} of {} bytes", used, size);
    mps2::exit(ok && stats.client.dropped_overflow == 0 && stats.client.malformed == 0)
}

#[embassy_executor::task]
async fn events(client: Client) {
    loop {
        match client.next_event().await {
            Event::Connected { native, again } => say!("connected: native {}, again {}", native, again),
            Event::Disconnected { .. } => say!("disconnected"),
            Event::Closed => return,
            _ => say!("something else happened"),
        }
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    mps2::stack::guard();
    mps2::time::init();
    static ARGS: StaticCell<Args> = StaticCell::new();
    let args = ARGS.init(Args::read());
    let Ok(nic) = Lan9118::new() else { panic!("no LAN9118") };
    let config = Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 2, 15), 24),
        gateway: Some(Ipv4Address::new(10, 0, 2, 2)),
        dns_servers: heapless::Vec::new(),
    });
    // This board has no random numbers; a real one takes them from its generator.
    let seed = u64::from(args.num("seed", 1));
    static STACK: StaticCell<StackResources<3>> = StaticCell::new();
    let (stack, net_runner) = embassy_net::new(nic, config, STACK.init(StackResources::new()), seed);
    static KCPQ: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let (client, runner) = KCPQ.take().split(&kcpq_embassy::Config::default(), time::now, seed);
    #[cfg(feature = "confirm")]
    {
        static CONFIRMS: ConstStaticCell<kcpq_embassy::ConfirmMemory<1>> =
            ConstStaticCell::new(kcpq_embassy::ConfirmMemory::new());
        if let Err(why) = client.lend_confirms(CONFIRMS.take()) {
            panic!("{}", why);
        }
    }
    let server = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::new(10, 0, 2, 2)), args.num("port", 4000) as u16);
    let id = args.get("id").unwrap_or("kitchen");
    let (rate, count) = (args.num("rate", 100), args.num("count", 0));
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    EXECUTOR.init(Executor::new()).run(|spawner: Spawner| {
        let spawned = [
            network(net_runner).map(|task| spawner.spawn(task)),
            kcpq(stack, server, runner).map(|task| spawner.spawn(task)),
            telemetry(client, id, rate, count, args.num("store", 0) == 1).map(|task| spawner.spawn(task)),
            commands(client, id).map(|task| spawner.spawn(task)),
            events(client).map(|task| spawner.spawn(task)),
        ];
        if spawned.iter().any(Result::is_err) {
            panic!("a task was spawned twice");
        }
    })
}
