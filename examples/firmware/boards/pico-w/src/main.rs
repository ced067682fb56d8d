//! The telemetry application on a Raspberry Pi Pico W or Pico 2 W, by Wi-Fi.
//!
//! What it needs to know comes from the environment when it is built: `KCPQ_WIFI` and `KCPQ_PASSWORD`, and `KCPQ_SERVER`, the
//! name or address of the machine where `kcpq serve --open` runs.

#![no_std]
#![no_main]

#[path = "../../../src/app.rs"]
mod app;

use cyw43::{Control, JoinOptions, NetDriver, SpiBus, State, aligned_bytes};
use cyw43_pio::{DEFAULT_CLOCK_DIVIDER, PioSpi};
use embassy_executor::Spawner;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Config, Stack, StackResources};
use embassy_rp::clocks::RoscRng;
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{DMA_CH0, PIO0};
use embassy_rp::pio::{self, Pio};
use embassy_rp::{bind_interrupts, dma};
use embassy_time::Timer;
use kcpq_embassy::named::NamedUdp;
use kcpq_embassy::time;
use panic_halt as _;
use static_cell::{ConstStaticCell, StaticCell};

use app::{Client, Memory, Runner};

const WIFI: Option<&str> = option_env!("KCPQ_WIFI");
const PASSWORD: Option<&str> = option_env!("KCPQ_PASSWORD");
const SERVER: Option<&str> = option_env!("KCPQ_SERVER");
const PORT: u16 = 4000;
/// What this sensor is called.
const ID: &str = "pico-w";

type Chip = cyw43::Runner<'static, SpiBus<Output<'static>, PioSpi<'static, PIO0, 0>>>;

bind_interrupts!(struct Irqs {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>;
});

#[embassy_executor::task]
async fn chip(runner: Chip) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, NetDriver<'static>>) -> ! {
    runner.run().await
}

/// Joins the network, and again whenever it has lost it.
#[embassy_executor::task]
async fn wifi(mut control: Control<'static>, stack: Stack<'static>, name: &'static str, password: &'static str) -> ! {
    loop {
        if control.join(name, JoinOptions::new(password.as_bytes())).await.is_ok() {
            stack.wait_link_down().await;
        }
        Timer::after_secs(1).await;
    }
}

#[embassy_executor::task]
async fn kcpq(stack: Stack<'static>, server: &'static str, mut runner: Runner) {
    static RX_META: ConstStaticCell<[PacketMetadata; 8]> = ConstStaticCell::new([PacketMetadata::EMPTY; 8]);
    static TX_META: ConstStaticCell<[PacketMetadata; 4]> = ConstStaticCell::new([PacketMetadata::EMPTY; 4]);
    static RX: ConstStaticCell<[u8; 4096]> = ConstStaticCell::new([0; 4096]);
    static TX: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    let socket = UdpSocket::new(stack, RX_META.take(), RX.take(), TX_META.take(), TX.take());
    if let Ok(mut udp) = NamedUdp::new(stack, socket, server, PORT).await {
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
    let (Some(name), Some(password), Some(server)) = (WIFI, PASSWORD, SERVER) else {
        panic!("build it with KCPQ_WIFI, KCPQ_PASSWORD and KCPQ_SERVER in the environment");
    };
    let board = embassy_rp::init(Default::default());
    let seed = RoscRng.next_u64();

    // The radio has no memory of its own for its program; build.rs knows where that is.
    let firmware = aligned_bytes!(concat!(env!("CYW43_FIRMWARE"), "/43439A0.bin"));
    let nvram = aligned_bytes!(concat!(env!("CYW43_FIRMWARE"), "/nvram_rp2040.bin"));
    let regulations = include_bytes!(concat!(env!("CYW43_FIRMWARE"), "/43439A0_clm.bin"));
    let mut pio = Pio::new(board.PIO0, Irqs);
    let bus = PioSpi::new(
        &mut pio.common,
        pio.sm0,
        DEFAULT_CLOCK_DIVIDER,
        pio.irq0,
        Output::new(board.PIN_25, Level::High),
        board.PIN_24,
        board.PIN_29,
        dma::Channel::new(board.DMA_CH0, Irqs),
    );
    let power = Output::new(board.PIN_23, Level::Low);
    static STATE: StaticCell<State> = StaticCell::new();
    let (device, mut control, chip_runner) = cyw43::new(STATE.init_with(State::new), power, bus, firmware, nvram).await;

    static STACK: StaticCell<StackResources<4>> = StaticCell::new();
    let (stack, net_runner) =
        embassy_net::new(device, Config::dhcpv4(Default::default()), STACK.init(StackResources::new()), seed);
    static KCPQ: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let (client, runner) = KCPQ.take().split(&kcpq_embassy::Config::default(), time::now, seed);
    // The radio takes what it is told only while its task runs.
    spawner.spawn(chip(chip_runner).expect("it is spawned once"));
    control.init(regulations).await;
    let spawned = [
        network(net_runner).map(|task| spawner.spawn(task)),
        wifi(control, stack, name, password).map(|task| spawner.spawn(task)),
        kcpq(stack, server, runner).map(|task| spawner.spawn(task)),
        telemetry(client).map(|task| spawner.spawn(task)),
        commands(client).map(|task| spawner.spawn(task)),
    ];
    if spawned.iter().any(Result::is_err) {
        panic!("a task was spawned twice");
    }
}
