//! A sensor on an ESP32-C3 that sleeps. Once a minute it wakes up, joins the Wi-Fi, finds its server by name, tells it one
//! reading in a sealed session, and sleeps again: for the battery's sake whether it has succeeded or not.
//!
//! What it needs to know comes from the environment when it is built: `KCPQ_WIFI` and `KCPQ_PASSWORD`, `KCPQ_SERVER`, the
//! server's name or address, and `KCPQ_SERVER_KEY`, its public key as `kcpq serve` says it.

#![no_std]
#![no_main]

#[path = "../../../src/app.rs"]
#[allow(dead_code, reason = "a device that sleeps takes no commands")]
mod app;

use core::fmt::Write as _;

use embassy_executor::Spawner;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Config, Stack, StackResources};
use embassy_time::{Duration, with_timeout};
use esp_backtrace as _;
use esp_hal::ram;
use esp_hal::rng::{Trng, TrngSource};
use esp_hal::rtc_cntl::sleep::{LowPower, RtcSleepConfig};
use esp_hal::timer::timg::TimerGroup;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{AuthenticationMethodConfig, Config as Wifi, Interface, WifiController};
use heapless::String;
use kcpq_embassy::named::NamedUdp;
use kcpq_embassy::{PublicKey, Trust, time};
use log::{LevelFilter, error, info};
use portable_atomic::{AtomicU32, Ordering};
use static_cell::{ConstStaticCell, StaticCell};

use app::{Client, Memory, Runner};

const WIFI: Option<&str> = option_env!("KCPQ_WIFI");
const PASSWORD: Option<&str> = option_env!("KCPQ_PASSWORD");
const SERVER: Option<&str> = option_env!("KCPQ_SERVER");
const SERVER_KEY: Option<&str> = option_env!("KCPQ_SERVER_KEY");
const PORT: u16 = 4000;

/// From one reading to the next.
const SLEEP: esp_hal::time::Duration = esp_hal::time::Duration::from_secs(60);
/// How long it may stay awake.
const AWAKE: Duration = Duration::from_secs(30);

/// Readings so far: RAM that keeps its contents in deep sleep.
#[ram(unstable(rtc_fast, persistent))]
static NUMBER: AtomicU32 = AtomicU32::new(0);

esp_bootloader_esp_idf::esp_app_desc!();

#[embassy_executor::task]
async fn network(mut runner: embassy_net::Runner<'static, Interface>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn kcpq(stack: Stack<'static>, server: &'static str, mut runner: Runner) {
    static RX_META: ConstStaticCell<[PacketMetadata; 8]> = ConstStaticCell::new([PacketMetadata::EMPTY; 8]);
    static TX_META: ConstStaticCell<[PacketMetadata; 4]> = ConstStaticCell::new([PacketMetadata::EMPTY; 4]);
    static RX: ConstStaticCell<[u8; 4096]> = ConstStaticCell::new([0; 4096]);
    static TX: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    let socket = UdpSocket::new(stack, RX_META.take(), RX.take(), TX_META.take(), TX.take());
    match NamedUdp::new(stack, socket, server, PORT).await {
        Ok(mut udp) => runner.run(&mut udp, &mut time::Timer).await,
        Err(why) => error!("{server}: {why:?}"),
    }
}

/// One reading, which the server has when this returns.
async fn tell(client: Client, id: &str, number: u32) -> bool {
    let mut subject: String<64> = String::new();
    let _ = write!(subject, "sensors.{id}.temperature");
    let reading = app::reading(number, embassy_time::Instant::now());
    let told = client.publish(&subject, &reading).await.is_ok() && client.flush().await.is_ok();
    // The server need not wait for somebody who comes back with nothing in its memory.
    client.close().await;
    told
}

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    esp_println::logger::init_logger(LevelFilter::Info);
    let board = esp_hal::init(esp_hal::Config::default());
    // The radio's driver allocates; kcpq does not.
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: 64 * 1024);
    esp_alloc::heap_allocator!(size: 36 * 1024);
    esp_rtos::start(TimerGroup::new(board.TIMG0).timer0, board.FROM_CPU_INTR0);
    let mut power = LowPower::new(board.LPWR);

    let (Some(wifi), Some(password), Some(server), Some(key)) = (WIFI, PASSWORD, SERVER, SERVER_KEY) else {
        panic!("build it with KCPQ_WIFI, KCPQ_PASSWORD, KCPQ_SERVER and KCPQ_SERVER_KEY in the environment");
    };
    let key: PublicKey = key.parse().expect("KCPQ_SERVER_KEY is a public key as kcpq writes it");

    // Noise of the analog-to-digital converter, before the radio has need of it.
    let source = TrngSource::new(board.RNG, board.ADC1);
    let noise = Trng::try_new().expect("it has a source");
    let (mut entropy, mut seed) = ([0; 32], [0; 8]);
    noise.read(&mut entropy);
    noise.read(&mut seed);
    drop((noise, source));
    let seed = u64::from_le_bytes(seed);

    let mut controller = WifiController::new(board.WIFI, Default::default()).expect("there is memory for the radio");
    let station = StationConfig::default()
        .with_ssid(wifi.try_into().expect("KCPQ_WIFI has 32 bytes at most"))
        .with_authentication(AuthenticationMethodConfig::Wpa2Personal(
            password.try_into().expect("KCPQ_PASSWORD has 8 to 64 bytes"),
        ));
    controller.set_config(&Wifi::Station(station)).expect("that can be set");

    static STACK: StaticCell<StackResources<4>> = StaticCell::new();
    let device = Interface::station();
    let address = device.mac_address();
    let (stack, net_runner) =
        embassy_net::new(device, Config::dhcpv4(Default::default()), STACK.init(StackResources::new()), seed);
    static KCPQ: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let (client, runner) = KCPQ
        .take()
        .split_sealed(&kcpq_embassy::Config::default(), time::now, seed, Trust::Anonymous { server: key }, &entropy)
        .expect("a server can have this key");
    spawner.spawn(network(net_runner).expect("it is spawned once"));
    spawner.spawn(kcpq(stack, server, runner).expect("it is spawned once"));

    let [.., a, b, c] = address;
    let mut id: String<8> = String::new();
    let _ = write!(id, "{a:02x}{b:02x}{c:02x}");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let told = with_timeout(AWAKE, async {
        if let Err(why) = controller.connect_async().await {
            return error!("{wifi}: {why:?}");
        }
        if tell(client, &id, number).await {
            info!("reading {number} is told");
        }
    });
    if told.await.is_err() {
        error!("reading {number} was not told within {} s", AWAKE.as_secs());
    }
    power.set_wakeup_deadline(esp_hal::time::Instant::now() + SLEEP);
    power.sleep_deep(RtcSleepConfig::deep())
}
