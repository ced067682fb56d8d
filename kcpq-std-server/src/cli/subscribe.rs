//! `kcpq sub`.

use std::io::Write;
use std::time::{Duration, Instant};

use async_io::Timer;
use async_signal::{Signal, Signals};
use clap::Parser;
use futures_lite::StreamExt;
use futures_lite::future::{or, pending};
use kcpq_smol::{Client, Message};

use super::{Failure, ServerArg};

/// The flags of `kcpq sub`.
#[derive(Debug, Parser)]
pub(super) struct Subscribe {
    #[command(flatten)]
    server: ServerArg,
    /// Subjects to subscribe to; `*` stands for one token, `>` for all that follow
    #[arg(required = true)]
    subject: Vec<String>,
    /// End after this many messages
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// End when no message came for so long
    #[arg(short, long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Print payloads only, as they are, each with a line feed behind it
    #[arg(short, long)]
    raw: bool,
}

/// What ended the wait for a message.
enum Next {
    Message(Message),
    /// The client has closed.
    End,
    Silence,
    Signal,
}

impl Subscribe {
    /// Prints messages until the count is reached, the wait is over, or a signal comes.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut signals = Signals::new([Signal::Int, Signal::Term])?;
        let client =
            Client::builder().name("kcpq sub").timeout(self.server.timeout).connect(&*self.server.server).await?;
        // One session gets one copy of a message; merged, overlapping patterns would print it twice.
        let (sender, messages) = async_channel::bounded(10_000);
        let mut subscriptions = Vec::new();
        for subject in &self.subject {
            subscriptions.push(client.subscribe(subject).capacity(10_000).await?);
        }
        drop((sender, messages));
        Ok(())
    }
}
