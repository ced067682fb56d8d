//! A sensor that publishes telemetry and takes commands. It runs wherever kcpq-embassy does.
//!
//! It publishes `sensors.ID.temperature` at a steady rate and answers commands to `sensors.ID.command` on
//! `sensors.ID.reply`: `ping WORD` by `pong WORD`, `stop` by `stopping`, after which [`commands`] returns.

use core::fmt::Write as _;

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::{Duration, Instant, Ticker};
use heapless::String;
use kcpq_embassy::{Client as AnyClient, Resources, Runner as AnyRunner};

/// All tasks are on one executor.
type Raw = NoopRawMutex;
/// Datagrams of 512 B, windows of 4 segments, messages of up to 256 B with their subject, 4 subscriptions.
pub type Memory = Resources<'static, Raw, 512, 4, 384, 256, 4>;
/// The client's handle.
pub type Client = AnyClient<'static, Raw>;
/// The client's background task.
pub type Runner = AnyRunner<'static, Raw>;

/// Length of a reading in bytes.
pub const READING: usize = 64;

/// One reading: sequence number, temperature in thousandths of a degree, milliseconds since the start, padding that
/// follows from the number, and a sum over all of that. Integers are big-endian.
pub fn reading(number: u32, now: Instant) -> [u8; READING] {
    let mut bytes = [number as u8; READING];
    // A day of temperatures every thousand readings.
    let phase = (number % 1_000) as i32;
    let temperature = 20_000 + (500 - (phase - 500).abs()) * 10;
    bytes[0..4].copy_from_slice(&number.to_be_bytes());
    bytes[4..8].copy_from_slice(&temperature.to_be_bytes());
    bytes[8..12].copy_from_slice(&(now.as_millis() as u32).to_be_bytes());
    let sum = checksum(&bytes[..READING - 4]);
    bytes[READING - 4..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Fletcher's sum, which sees altered as well as exchanged bytes.
fn checksum(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

/// Publishes `count` readings (0: without end), `rate` a second. Returns how many were taken.
pub async fn telemetry(client: Client, id: &str, rate: u32, count: u32) -> u32 {
    let subject = subject(id, "temperature");
    let mut ticker = Ticker::every(Duration::from_hz(u64::from(rate.max(1))));
    let mut number = 0;
    while count == 0 || number < count {
        ticker.next().await;
        // Waits while there is no room, also for a server that is away.
        if client.publish(&subject, &reading(number, Instant::now())).await.is_err() {
            break;
        }
        number += 1;
    }
    number
}

/// What a command asks for.
enum Command {
    Ping(String<32>),
    Stop,
    Unknown,
}

/// Answers commands until `stop`, whose answer has been handled by the server when this returns. False if the
/// subscription failed.
pub async fn commands(client: Client, id: &str) -> bool {
    let reply = subject(id, "reply");
    let Ok(mut commands) = client.subscribe(&subject(id, "command")).await else { return false };
    loop {
        // The message is lent: what is needed of it is taken out here.
        let command = commands.next(|message| match message.payload() {
            b"stop" => Command::Stop,
            [b'p', b'i', b'n', b'g', b' ', word @ ..] => core::str::from_utf8(word)
                .ok()
                .and_then(|word| String::try_from(word).ok())
                .map_or(Command::Unknown, Command::Ping),
            _ => Command::Unknown,
        });
        let Ok(command) = command.await else { return false };
        let mut answer: String<48> = String::new();
        let _ = match &command {
            Command::Ping(word) => write!(answer, "pong {word}"),
            Command::Stop => answer.write_str("stopping"),
            Command::Unknown => answer.write_str("unknown command"),
        };
        if client.publish(&reply, answer.as_bytes()).await.is_err() {
            return false;
        }
        if matches!(command, Command::Stop) {
            return client.flush().await.is_ok();
        }
    }
}

/// Where a sensor publishes to, and is told.
pub(crate) fn subject(id: &str, kind: &str) -> String<64> {
    let mut subject = String::new();
    // Longer ids are cut; the server refuses what is no subject.
    let _ = write!(subject, "sensors.{id}.{kind}");
    subject
}
