//! The telemetry application on ST's Nucleo-H743ZI (or ZI2), whose Ethernet is on the board. Address by DHCP; the server's is
//! [`SERVER`].

#![no_std]
#![no_main]

#[path = "../../../src/app.rs"]
mod app;

use embassy_executor::Spawner;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Config, IpAddress, IpEndpoint, Ipv4Address, Stack, StackResources};
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::peripherals::{ETH, ETH_SMA, RNG};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::{bind_interrupts, rcc};
use kcpq_embassy::{net, time};
use panic_halt as _;
use static_cell::{ConstStaticCell, StaticCell};

use app::{Client, Memory, Runner};

/// Where `kcpq serve --open` runs.
const SERVER: IpEndpoint = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::new(192, 168, 1, 2)), 4000);
/// What this sensor is called.
const ID: &str = "nucleo";

type Nic = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;

bind_interrupts!(struct Irqs {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Nic>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn kcpq(stack: Stack<'static>, mut runner: Runner) {
    static RX_META: ConstStaticCell<[PacketMetadata; 8]> = ConstStaticCell::new([PacketMetadata::EMPTY; 8]);
    static TX_META: ConstStaticCell<[PacketMetadata; 4]> = ConstStaticCell::new([PacketMetadata::EMPTY; 4]);
    static RX: ConstStaticCell<[u8; 4096]> = ConstStaticCell::new([0; 4096]);
    static TX: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    stack.wait_config_up().await;
    let socket = UdpSocket::new(stack, RX_META.take(), RX.take(), TX_META.take(), TX.take());
    if let Ok(mut udp) = net::Udp::new(socket, SERVER) {
        runner.run(&mut udp, &mut time::Timer).await;
    }
}

#[embassy_executor::task]
async fn telemetry(client: Client) {
    app::telemetry(client, ID, 10, 0).await;
}

#[embassy_executor::task]
async fn commands(client: Client) {
    // `stop` ends this session; a board has nowhere to exit to.
    app::commands(client, ID).await;
    client.close().await;
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let mut config = embassy_stm32::Config::default();
    config.rcc.hsi48 = Some(rcc::Hsi48Config::default()); // clocks the random numbers
    let board = embassy_stm32::init(config);
    let mut random = [0; 8];
    Rng::new(board.RNG, Irqs).fill_bytes(&mut random);
    let seed = u64::from_le_bytes(random);

    static PACKETS: StaticCell<PacketQueue<4, 4>> = StaticCell::new();
    // Locally administered; a product has one of its own.
    let address = [0x02, 0x00, 0x6b, 0x63, 0x70, 0x71];
    let nic = Ethernet::new(
        PACKETS.init_with(PacketQueue::new),
        board.ETH,
        Irqs,
        board.PA1,
        board.PA7,
        board.PC4,
        board.PC5,
        board.PG13,
        board.PB13,
        board.PG11,
        address,
        board.ETH_SMA,
        board.PA2,
        board.PC1,
    );
    static STACK: StaticCell<StackResources<3>> = StaticCell::new();
    let (stack, net_runner) =
        embassy_net::new(nic, Config::dhcpv4(Default::default()), STACK.init(StackResources::new()), seed);
    static KCPQ: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let (client, runner) = KCPQ.take().split(&kcpq_embassy::Config::default(), time::now, seed);
    let spawned = [
        network(net_runner).map(|task| spawner.spawn(task)),
        kcpq(stack, runner).map(|task| spawner.spawn(task)),
        telemetry(client).map(|task| spawner.spawn(task)),
        commands(client).map(|task| spawner.spawn(task)),
    ];
    if spawned.iter().any(Result::is_err) {
        panic!("a task was spawned twice");
    }
}
