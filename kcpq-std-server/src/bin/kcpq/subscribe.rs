//! `kcpq sub`.

use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use async_io::Timer;
use async_signal::Signals;
use clap::Parser;
use futures_lite::future::{or, pending};
use futures_lite::{Stream, StreamExt};
use kcpq_smol::{Message, Subscription};

use super::{Failure, ServerArg, signals};

/// The flags of `kcpq sub`.
#[derive(Debug, Parser)]
pub(super) struct Subscribe {
    #[command(flatten)]
    server: ServerArg,
    /// Subjects to subscribe to; `*` matches one token, `>` one or more at the end
    #[arg(required = true)]
    subject: Vec<String>,
    /// Exit after this many messages
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// Exit when no message has arrived for this long
    #[arg(short, long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// Print payloads only, unmodified, each followed by a newline
    #[arg(short, long)]
    raw: bool,
    /// Latest only: the server keeps just the newest queued message of each subject
    #[arg(short, long)]
    latest: bool,
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
        let mut signals = signals::ending()?;
        let client = self.server.connect("kcpq sub").await?;
        let mut subscriptions = Vec::new();
        for subject in &self.subject {
            let subscribe = client.subscribe(subject).capacity(QUEUE);
            let subscribe = if self.latest { subscribe.latest() } else { subscribe };
            subscriptions.push(subscribe.await?);
        }
        // For scripts that wait for it.
        eprintln!("subscribed to {}", self.subject.join(", "));
        let mut out = std::io::stdout().lock();
        let mut received = 0;
        while self.count.is_none_or(|count| received < count) {
            match next(&mut subscriptions, self.wait, &mut signals).await {
                Next::Message(message) => {
                    received += 1;
                    self.print(&mut out, &message)?;
                }
                Next::Silence if self.count.is_some() => {
                    let count = self.count.unwrap_or_default();
                    return Err(Failure::Timeout(format!("timed out: {received} of {count} messages received")));
                }
                Next::Silence | Next::Signal => break,
                Next::End => return Err(Failure::Error("the client has closed".into())),
            }
        }
        out.flush()?;
        let dropped: u64 = subscriptions.iter().map(|subscription| subscription.stats().dropped).sum();
        drop(subscriptions);
        client.close().await?;
        match dropped {
            0 => Ok(()),
            _ => Err(Failure::Error(format!(
                "{dropped} messages dropped: they arrived faster than they could be printed"
            ))),
        }
    }

    /// A line for each message: who reads it sees it at once.
    fn print(&self, out: &mut impl Write, message: &Message) -> std::io::Result<()> {
        if !self.raw {
            write!(out, "{}: ", message.subject())?;
        }
        out.write_all(message.payload())?;
        out.write_all(b"\n")?;
        out.flush()
    }
}

/// Messages that may wait to be printed, for each subject.
const QUEUE: usize = 100_000;

/// The next message of any subscription, or what else comes first.
async fn next(subscriptions: &mut [Subscription], wait: Option<Duration>, signals: &mut Signals) -> Next {
    let message = poll_fn(|cx| {
        let mut ended = 0;
        for subscription in subscriptions.iter_mut() {
            match Pin::new(subscription).poll_next(cx) {
                Poll::Ready(Some(message)) => return Poll::Ready(Next::Message(message)),
                Poll::Ready(None) => ended += 1,
                Poll::Pending => {}
            }
        }
        if ended == subscriptions.len() { Poll::Ready(Next::End) } else { Poll::Pending }
    });
    let silence = async {
        match wait {
            Some(wait) => {
                Timer::after(wait).await;
                Next::Silence
            }
            None => pending().await,
        }
    };
    let signal = async {
        signals.next().await;
        Next::Signal
    };
    or(message, or(silence, signal)).await
}
