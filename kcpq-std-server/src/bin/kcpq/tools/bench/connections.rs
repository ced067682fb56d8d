//! `kcpq bench connections`: many sessions that only keep themselves alive, and what they cost.

use std::time::Duration;

use clap::Args;
use futures_lite::future::or;
use kcpq_smol::Client;
use serde_json::json;
use smol::Timer;

use super::args::Common;
use super::clock::Clock;
use super::process::{self, Usage};
use super::report;
use super::stop::Stop;
use crate::Failure;
use crate::progress::{INTERVAL, Progress};

/// The flags.
#[derive(Debug, Args)]
pub(super) struct Connections {
    #[command(flatten)]
    pub(super) common: Common,
    /// Number of sessions
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    count: u32,
    /// Maximum number of sessions being opened at a time
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    opening: u32,
    /// How long to keep the sessions open
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Heartbeat interval of each session
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    heartbeat: Duration,
}

/// What a process used while the sessions were opened, and while they were kept.
#[derive(Clone, Copy, Debug)]
struct Cost {
    opening: f64,
    idle: f64,
    memory: u64,
    before: u64,
}

struct Outcome {
    opened: u32,
    opening: f64,
    idle: f64,
    /// Sessions that had no connection at the end.
    lost: u32,
    own: Option<Cost>,
    server: Option<Cost>,
}

impl Connections {
    /// Opens the sessions, keeps them, and prints what that cost.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let stop = Stop::listen()?;
        let outcome = smol::block_on(self.measure(&stop))?;
        report::write(&if self.common.json { self.to_json(&outcome) } else { self.to_text(&outcome) })?;
        stop.verdict()?;
        match outcome.lost {
            0 => Ok(()),
            lost => Err(Failure::Error(format!("{lost} of {} sessions were lost", outcome.opened))),
        }
    }

    async fn measure(&self, stop: &Stop) -> Result<Outcome, Failure> {
        let usage = || (process::usage(None), self.common.server_pid.and_then(|pid| process::usage(Some(pid))));
        let clock = Clock::start();
        let progress = |what| Progress::new(what, Some(self.count.into()), !self.common.no_progress);
        let before = usage();
        let begin = clock.now();
        let clients = self.open(&progress("opening"), stop).await?;
        let (opened, opened_at) = (usage(), clock.now());
        let over = async {
            Timer::after(self.duration).await;
        };
        or(over, stop.asked()).await;
        let (after, end) = (usage(), clock.now());
        let count = clients.len() as u32;
        let lost = clients.iter().filter(|client| !client.is_connected()).count() as u32;
        self.close(clients, &progress("closing")).await;
        Ok(Outcome {
            opened: count,
            opening: (opened_at - begin) as f64 / 1e9,
            idle: (end - opened_at) as f64 / 1e9,
            lost,
            own: Cost::between(before.0, opened.0, after.0),
            server: Cost::between(before.1, opened.1, after.1),
        })
    }

    async fn open(&self, progress: &Progress, stop: &Stop) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        while (clients.len() as u32) < self.count && !stop.is_asked() {
            let batch = self.opening.min(self.count - clients.len() as u32);
            let mut tasks = Vec::new();
            for _ in 0..batch {
                let builder = self.common.server.builder("kcpq bench")?.heartbeat(self.heartbeat);
                tasks.push(smol::spawn(builder.connect(self.common.server.first()?)));
            }
            for task in tasks {
                clients.push(task.await.map_err(|error| self.explain(clients.len(), &error))?);
            }
            progress.at(clients.len() as u64);
        }
        Ok(clients)
    }

    fn explain(&self, opened: usize, error: &kcpq_smol::ConnectError) -> Failure {
        Failure::Error(format!(
            "after {opened} of {} sessions: {error} (each takes a socket of this process: see `ulimit -n`)",
            self.count
        ))
    }

    async fn close(&self, clients: Vec<Client>, progress: &Progress) {
        let tasks: Vec<_> =
            clients.into_iter().map(|client| smol::spawn(async move { client.close().await })).collect();
        while !tasks.iter().all(smol::Task::is_finished) {
            progress.at(tasks.iter().filter(|task| task.is_finished()).count() as u64);
            Timer::after(INTERVAL / 4).await;
        }
    }

    fn to_json(&self, outcome: &Outcome) -> String {
        let cost = |cost: Cost| {
            json!({
                "opening_cpu_seconds": cost.opening,
                "idle_cpu_seconds": cost.idle,
                "idle_cpu_percent": 100.0 * cost.idle / outcome.idle,
                "rss": cost.memory,
                "bytes_per_session": cost.per_session(outcome.opened),
            })
        };
        let object = json!({
            "kind": "connections",
            "sessions": outcome.opened,
            "lost": outcome.lost,
            "opening_seconds": outcome.opening,
            "sessions_per_s": f64::from(outcome.opened) / outcome.opening,
            "seconds": outcome.idle,
            "heartbeat_seconds": self.heartbeat.as_secs_f64(),
            "process": outcome.own.map(cost),
            "server": outcome.server.map(cost),
        });
        format!("{object}\n")
    }

    fn to_text(&self, outcome: &Outcome) -> String {
        let mut text = format!(
            "connections: {} sessions opened in {:.2} s, kept for {:.1} s with a heartbeat every {:?}, {} lost\n",
            outcome.opened, outcome.opening, outcome.idle, self.heartbeat, outcome.lost
        );
        for (name, cost) in [("this process", outcome.own), ("server", outcome.server)] {
            let Some(cost) = cost else { continue };
            text += &format!(
                "{name:<13} {:.2} s of CPU to open, idle {:.2} % of a core; {:.1} MiB, {} bytes for each session\n",
                cost.opening,
                100.0 * cost.idle / outcome.idle,
                cost.memory as f64 / f64::from(1 << 20),
                cost.per_session(outcome.opened),
            );
        }
        text
    }
}

impl Cost {
    fn between(before: Option<Usage>, opened: Option<Usage>, after: Option<Usage>) -> Option<Self> {
        let (before, opened, after) = (before?, opened?, after?);
        Some(Self {
            opening: opened.cpu - before.cpu,
            idle: after.cpu - opened.cpu,
            memory: after.memory,
            before: before.memory,
        })
    }

    fn per_session(&self, sessions: u32) -> u64 {
        self.memory.saturating_sub(self.before) / u64::from(sessions.max(1))
    }
}
