//! Receives a video, and writes what any player plays.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use kcpq_smol::{Client, Message, Preset, Subscription};
use smol::Unblock;
use smol::io::{AsyncWrite, AsyncWriteExt};

use super::publish::now;

/// Where a video goes to: `-` is standard output, all else a file.
///
/// # Errors
/// The system's.
pub(crate) fn create(name: &str) -> io::Result<Box<dyn AsyncWrite + Unpin>> {
    Ok(match name {
        "-" => Box::new(Unblock::new(io::stdout())),
        path => Box::new(Unblock::new(std::fs::File::create(path)?)),
    })
}

/// Subscribes to a video.
///
/// # Errors
/// What keeps it from that.
pub(crate) async fn tune_in(server: &str, subject: &str) -> Result<(Client, Subscription), Box<dyn Error>> {
    let client = Client::builder().name("h264 player").preset(Preset::VIDEO).connect(server).await?;
    let subscription = client.subscribe(subject).capacity(10_000).await?;
    Ok((client, subscription))
}

/// Writes access units, from the first that a decoder can begin with, until the publisher says that it was the last.
///
/// # Errors
/// What keeps them from being written. That nobody reads any more is none.
pub(crate) async fn play(
    video: &mut Subscription,
    target: &mut (impl AsyncWrite + Unpin + ?Sized),
) -> Result<Report, Box<dyn Error>> {
    let (mut report, mut next) = (Report::default(), None);
    while let Some(message) = video.next().await {
        let frame: u64 = number(&message, "Frame")?;
        if next.is_none() && message.headers().get("Key") != Some("yes") {
            continue;
        }
        report.dropped += frame.saturating_sub(next.unwrap_or(frame));
        next = Some(frame + 1);
        if message.payload().is_empty() {
            break;
        }
        report.add(&message, Duration::from_micros(number(&message, "Sent")?));
        let written = async {
            target.write_all(message.payload()).await?;
            target.flush().await
        };
        match written.await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    target.close().await?;
    Ok(report)
}

fn number(message: &Message, name: &str) -> Result<u64, String> {
    let text = message.headers().get(name).ok_or_else(|| format!("a message has no header {name}: no such video"))?;
    text.parse().map_err(|error| format!("{name}: '{text}' is no number: {error}"))
}

/// How a video has come.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    /// Access units that did not come.
    pub(crate) dropped: u64,
    times: Option<(Instant, Instant)>,
    latencies: Vec<Duration>,
}

impl Report {
    fn add(&mut self, message: &Message, sent: Duration) {
        let at = Instant::now();
        self.times = Some((self.times.map_or(at, |(first, _)| first), at));
        self.frames += 1;
        self.bytes += message.payload().len();
        self.latencies.push(now().saturating_sub(sent));
    }

    /// The latency within which this share of all have come.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, bytes, dropped, times, .. } = self;
        let seconds = times.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let fps = if seconds > 0.0 { frames.saturating_sub(1) as f64 / seconds } else { 0.0 };
        let megabytes = *bytes as f64 / 1e6;
        let share = 100.0 * *dropped as f64 / (*frames as f64 + *dropped as f64).max(1.0);
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.latency(share).as_secs_f64() * 1e3);
        write!(f, "{frames} frames, {megabytes:.1} MB in {seconds:.1} s: {fps:.0} fps; ")?;
        write!(f, "latency p50 {p50:.1} ms, p99 {p99:.1} ms, longest {max:.1} ms; {dropped} dropped, {share:.2} %")
    }
}
