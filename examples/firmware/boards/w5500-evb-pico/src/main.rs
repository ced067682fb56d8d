//! The telemetry application on WIZnet's W5500-EVB-Pico and W5500-EVB-Pico2, or on a Raspberry Pi Pico or Pico 2 with a
//! W5500 on the same pins. Address by DHCP; the server's is [`SERVER`].

#![no_std]
#![no_main]

#[path = "../../../src/app.rs"]
mod app;

use embassy_executor::Spawner;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Config, IpAddress, IpEndpoint, Ipv4Address, Stack, StackResources};
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, State};
use embassy_rp::clocks::RoscRng;
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, SPI0};
use embassy_rp::spi::{self, Async, Spi};
use embassy_rp::{bind_interrupts, dma};
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use kcpq_embassy::{net, time};
use panic_halt as _;
use static_cell::{ConstStaticCell, StaticCell};

use app::{Client, Memory, Runner};

/// Where `kcpq serve --open` runs.
const SERVER: IpEndpoint = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::new(192, 168, 1, 2)), 4000);
/// What this sensor is called.
const ID: &str = "pico";

type Bus = ExclusiveDevice<Spi<'static, SPI0, Async>, Output<'static>, Delay>;
type Chip = embassy_net_wiznet::Runner<'static, W5500, Bus, Input<'static>, Output<'static>>;

bind_interrupts!(struct Irqs {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

#[embassy_executor::task]
async fn chip(runner: Chip) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Device<'static>>) -> ! {
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
    let board = embassy_rp::init(Default::default());
    let seed = RoscRng.next_u64();

    let mut config = spi::Config::default();
    config.frequency = 50_000_000;
    let bus =
        Spi::new(board.SPI0, board.PIN_18, board.PIN_19, board.PIN_16, board.DMA_CH0, board.DMA_CH1, Irqs, config);
    let Ok(bus) = ExclusiveDevice::new(bus, Output::new(board.PIN_17, Level::High), Delay);
    let interrupt = Input::new(board.PIN_21, Pull::Up);
    let reset = Output::new(board.PIN_20, Level::High);
    // Locally administered; a product has one of its own.
    let address = [0x02, 0x00, 0x6b, 0x63, 0x70, 0x72];
    static STATE: StaticCell<State<8, 8>> = StaticCell::new();
    let state = STATE.init_with(State::new);
    let Ok((device, chip_runner)) = embassy_net_wiznet::new(address, state, bus, interrupt, reset).await else {
        panic!("no W5500 answers");
    };

    static STACK: StaticCell<StackResources<3>> = StaticCell::new();
    let (stack, net_runner) =
        embassy_net::new(device, Config::dhcpv4(Default::default()), STACK.init(StackResources::new()), seed);
    static KCPQ: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let (client, runner) = KCPQ.take().split(&kcpq_embassy::Config::default(), time::now, seed);
    let spawned = [
        chip(chip_runner).map(|task| spawner.spawn(task)),
        network(net_runner).map(|task| spawner.spawn(task)),
        kcpq(stack, runner).map(|task| spawner.spawn(task)),
        telemetry(client).map(|task| spawner.spawn(task)),
        commands(client).map(|task| spawner.spawn(task)),
    ];
    if spawned.iter().any(Result::is_err) {
        panic!("a task was spawned twice");
    }
}
