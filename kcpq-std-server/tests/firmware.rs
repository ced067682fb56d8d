//! Firmware for a Cortex-M3 (`examples/firmware`), run by QEMU, against the program `kcpq` on loopback.
//!
//! It is built with Debian's toolchain (`cargo +/usr`), which has the sources of the standard library. Where that or QEMU
//! is missing the tests say so and pass, unless `KCPQ_REQUIRE_FIRMWARE=1`.

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use kcpq_smol::{Backoff, Client, Subscription};
use serde_json::json;
use support::jetstream::{self, JetStream};
use support::nats;
use support::port;
use support::process::Process;
use support::relay::{Relay, RelayConfig};
use support::wait::soon;

const PATIENCE: Duration = Duration::from_secs(60);
const PACKAGES: &str = "rustc-web cargo-web rust-web-src lld qemu-system-arm";

/// The firmware, built once per test process.
fn firmware() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let has = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !has("qemu-system-arm", &["--version"])
        || !has("cargo", &["+/usr", "--version"])
        || !has("ld.lld", &["--version"])
    {
        let message = format!("the firmware needs another toolchain and QEMU (apt-get install {PACKAGES})");
        assert!(std::env::var_os("KCPQ_REQUIRE_FIRMWARE").is_none_or(|value| value != "1"), "{message}");
        println!("skipped: {message}");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("firmware");
    let status = Command::new("cargo")
        .args([
            "+/usr",
            "build",
            "--locked",
            "--release",
            "--bin",
            "telemetry",
            "--features",
            "confirm",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(directory())
        // What the outer cargo chose is for this machine, not for that one.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "the firmware does not build");
    Some(target.join("thumbv7m-none-eabi/release/telemetry"))
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/firmware")
}

fn run(elf: &Path, port: u16, args: &[&str]) -> Process {
    let mut command = Command::new("sh");
    command.arg("qemu.sh").arg(elf).arg(format!("port={port}")).args(args).current_dir(directory());
    Process::spawn(command.env("QEMU_TIMEOUT", "180"))
}

fn serve(listen: &str) -> (Process, SocketAddr) {
    serve_with(listen, &[])
}

fn serve_with(listen: &str, args: &[&str]) -> (Process, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcpq"));
    let mut server = Process::spawn(command.args(["serve", "--listen", listen]).args(args));
    let addr = server.expect_line("listening on ", PATIENCE);
    (server, addr.parse().unwrap())
}

async fn connect(addr: SocketAddr) -> Client {
    let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(1) };
    Client::builder().reconnect(Some(backoff)).connect(addr).await.unwrap()
}

/// The number of a reading, as `examples/firmware/src/app.rs` makes it.
fn number(reading: &[u8]) -> u32 {
    assert_eq!(reading.len(), 64);
    let word = |at: usize| u32::from_be_bytes(reading[at..at + 4].try_into().unwrap());
    let (low, high) = reading[..60].iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    assert_eq!(word(60), high << 16 | low, "the reading was altered");
    assert!(reading[12..60].iter().all(|byte| *byte == word(0) as u8));
    word(0)
}

async fn next(readings: &mut Subscription) -> u32 {
    let message = soon("a reading", readings.next()).await.unwrap();
    number(message.payload())
}

/// Asks the firmware, until it has subscribed and answers.
async fn ask(client: &Client, replies: &mut Subscription, command: &str, answer: &[u8]) {
    let asking = async {
        loop {
            client.publish("sensors.bench.command", command.as_bytes()).await.unwrap();
            let waited = smol::future::or(async { Some(replies.next().await) }, async {
                smol::Timer::after(Duration::from_secs(1)).await;
                None
            });
            if waited.await.is_some_and(|reply| reply.unwrap().payload() == answer) {
                return;
            }
        }
    };
    soon("an answer", asking).await;
}

#[test]
fn telemetry_arrives_once_and_in_order_through_a_lossy_link_and_commands_are_answered() {
    let Some(elf) = firmware() else { return };
    let (_server, addr) = serve("127.0.0.1:0");
    let relay = Relay::start(addr, RelayConfig { seed: 1, loss: 0.1, ..RelayConfig::default() });
    smol::block_on(async {
        let client = connect(addr).await;
        let mut readings = client.subscribe("sensors.bench.temperature").await.unwrap();
        let mut replies = client.subscribe("sensors.bench.reply").await.unwrap();
        let firmware = run(elf, relay.addr().port(), &["id=bench", "rate=100", "count=1000"]);
        for expected in 0..1_000 {
            assert_eq!(next(&mut readings).await, expected);
        }
        ask(&client, &mut replies, "ping one", b"pong one").await;
        ask(&client, &mut replies, "nonsense", b"unknown command").await;
        ask(&client, &mut replies, "stop", b"stopping").await;
        let output = firmware.wait(PATIENCE);
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(output.status.success(), "{text}");
        assert!(text.contains("telemetry: 1000 published"));
        assert!(text.contains("in doubt 0, overflow 0, unread 0"));
        let lost = (relay.to_upstream().lost, relay.to_clients().lost);
        println!("lost to and from the server: {lost:?}");
        assert!(lost.0 > 30 && lost.1 > 30);
    });
}

#[test]
fn telemetry_goes_on_after_the_server_was_restarted() {
    let Some(elf) = firmware() else { return };
    let (server, addr) = serve(&port::free_addr().to_string());
    smol::block_on(async {
        let client = connect(addr).await;
        let mut readings = client.subscribe("sensors.bench.temperature").await.unwrap();
        let mut replies = client.subscribe("sensors.bench.reply").await.unwrap();
        let firmware = run(elf, addr.port(), &["id=bench", "rate=100"]);
        let mut last = next(&mut readings).await;
        while last < 200 {
            let number = next(&mut readings).await;
            assert_eq!(number, last + 1);
            last = number;
        }
        // Killed, not asked to stop: nobody is told.
        drop(server);
        let (_server, again) = serve(&addr.to_string());
        assert_eq!(again, addr);
        // What was under way, and what came before this client was back, is lost; nothing comes twice or out of order.
        let mut in_a_row = 0;
        while in_a_row < 200 {
            let number = next(&mut readings).await;
            assert!(number > last, "{number} after {last}");
            in_a_row = if number == last + 1 { in_a_row + 1 } else { 0 };
            last = number;
        }
        ask(&client, &mut replies, "ping two", b"pong two").await;
        ask(&client, &mut replies, "stop", b"stopping").await;
        let output = firmware.wait(PATIENCE);
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(output.status.success(), "{text}");
        assert!(text.contains("reconnects 1"), "{text}");
    });
}

/// What a stream has of `sensors.bench.temperature`, in its order.
fn stored(jetstream: &JetStream) -> Vec<Vec<u8>> {
    let get = |number: u64| {
        let answer = jetstream.ask("STREAM.MSG.GET.READINGS", &json!({ "seq": number }));
        base64::prelude::BASE64_STANDARD.decode(answer["message"]["data"].as_str().unwrap()).unwrap()
    };
    (1..=jetstream::last(&mut jetstream.nats.client(), "READINGS")).map(get).collect()
}

#[test]
fn each_reading_is_stored_once_and_in_order_through_a_lossy_link_until_the_stream_takes_no_more() {
    if !nats::is_there() {
        return;
    }
    let Some(elf) = firmware() else { return };
    const ROOM: usize = 40;
    let jetstream = JetStream::start("firmware-store");
    let most = json!({ "subjects": ["sensors.*.temperature"], "max_msgs": ROOM, "discard": "new" });
    jetstream.create("READINGS", most);
    let (_server, addr) = serve_with("127.0.0.1:0", &["--nats", &jetstream.nats.url()]);
    let relay = Relay::start(addr, RelayConfig { seed: 2, loss: 0.1, ..RelayConfig::default() });
    smol::block_on(async {
        let client = connect(addr).await;
        let mut replies = client.subscribe("sensors.bench.reply").await.unwrap();
        let mut firmware = run(elf, relay.addr().port(), &["id=bench", "rate=100", "store=1"]);
        // Not until the stream is full: the refusal of the next reading is still under way then, and `stop` would end first.
        let why = firmware.expect_line("the next one is not: ", PATIENCE);
        assert_eq!(why, "the message is not stored: maximum messages exceeded");
        ask(&client, &mut replies, "stop", b"stopping").await;
        let output = firmware.wait(PATIENCE);
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("telemetry: {ROOM} stored, ")), "{text}");
    });
    let numbers: Vec<u32> = stored(&jetstream).iter().map(|reading| number(reading)).collect();
    assert!(numbers.into_iter().eq(0..ROOM as u32));
}
