//! `kcpq ping`.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use async_io::Timer;
use clap::Parser;
use futures_lite::future::or;
use kcpq_smol::{Client, Snapshot};
use serde_json::json;

use super::interrupt::Interrupt;
use super::{Failure, ServerArg};

/// The flags of `kcpq ping`.
#[derive(Debug, Parser)]
pub(super) struct Ping {
    #[command(flatten)]
    server: ServerArg,
    /// Ask so many times [default: until a signal comes]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Time from one question to the next
    #[arg(short, long, default_value = "1s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print one JSON object at the end, and nothing before
    #[arg(long)]
    json: bool,
}

/// What was asked and answered.
#[derive(Debug, Default)]
struct Answers {
    asked: u64,
    /// How long each answer took.
    took: Vec<Duration>,
}

impl Ping {
    /// Asks until the count is reached or a signal comes, and says what came of it. That nothing was answered is a failure.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut interrupt = Interrupt::listen()?;
        let begun = Instant::now();
        let connected = or(async { Some(self.server.connect("kcpq ping").await) }, async {
            interrupt.come().await;
            None
        });
        let Some(client) = connected.await else { return Ok(()) };
        let (client, connecting) = (client?, begun.elapsed());
        if !self.json {
            let kind = if client.is_native() { "native" } else { "original" };
            print(&format!("connected to {} in {:.3} ms, {kind} protocol\n", client.server(), millis(connecting)))?;
        }
        let mut answers = Answers::default();
        let asked = async {
            self.ask(&client, &mut answers).await?;
            Ok::<_, Failure>(())
        };
        or(asked, async {
            interrupt.come().await;
            Ok(())
        })
        .await?;
        let stats = client.stats();
        let report =
            if self.json { self.to_json(&client, connecting, &answers, &stats) } else { answers.to_text(&stats) };
        // The figures stand, whatever the server says at the end.
        let _ = client.close().await;
        print(&report)?;
        match answers.took.len() {
            0 => Err(Failure::Error("the server has answered nothing".into())),
            _ => Ok(()),
        }
    }

    async fn ask(&self, client: &Client, answers: &mut Answers) -> Result<(), Failure> {
        while self.count.is_none_or(|count| answers.asked < count) {
            let next = Timer::after(self.interval);
            answers.asked += 1;
            let text = match client.ping().await {
                Ok(took) => {
                    answers.took.push(took);
                    format!("{}: {:.3} ms\n", answers.asked, millis(took))
                }
                Err(error) => format!("{}: {error}\n", answers.asked),
            };
            if !self.json {
                print(&text)?;
            }
            if self.count != Some(answers.asked) {
                next.await;
            }
        }
        Ok(())
    }

    fn to_json(&self, client: &Client, connecting: Duration, answers: &Answers, stats: &Snapshot) -> String {
        let round_trips = answers
            .summary()
            .map(|(min, mean, max)| json!({ "min": millis(min), "mean": millis(mean), "max": millis(max) }));
        let object = json!({
            "server": client.server(),
            "native": client.is_native(),
            "connect_ms": millis(connecting),
            "asked": answers.asked,
            "answered": answers.took.len(),
            "round_trip_ms": round_trips,
            "max_datagram": stats.max_datagram,
            "segments": stats.transport.segments_sent,
            "retransmitted": stats.transport.retransmitted,
            "connections_lost": stats.client.connection_errors,
        });
        format!("{object}\n")
    }
}

impl Answers {
    /// The shortest time, the mean and the longest, if there was an answer.
    fn summary(&self) -> Option<(Duration, Duration, Duration)> {
        let (min, max) = (self.took.iter().min()?, self.took.iter().max()?);
        let mean = self.took.iter().sum::<Duration>() / u32::try_from(self.took.len()).ok()?;
        Some((*min, mean, *max))
    }

    fn to_text(&self, stats: &Snapshot) -> String {
        let mut text = format!("{} asked, {} answered", self.asked, self.took.len());
        if let Some((min, mean, max)) = self.summary() {
            text += &format!("; min {:.3}, mean {:.3}, max {:.3} ms", millis(min), millis(mean), millis(max));
        }
        text + &format!(
            "\ndatagrams of up to {} bytes; {} segments sent, {} of them again; {} connections lost\n",
            stats.max_datagram,
            stats.transport.segments_sent,
            stats.transport.retransmitted,
            stats.client.connection_errors
        )
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
