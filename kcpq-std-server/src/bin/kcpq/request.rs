//! `kcpq req`.

use std::io::{self, IsTerminal, Read, Write};
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use kcpq_smol::{Client, Message, Replies, RequestError, RequestFailure};

use super::format::Format;
use super::header::Header;
use super::{Failure, ServerArg};

/// The flags of `kcpq req`.
#[derive(Debug, Parser)]
pub(super) struct Request {
    #[command(flatten)]
    server: ServerArg,
    /// Subject to publish to
    subject: String,
    /// The message; if absent, it is read from standard input
    payload: Option<String>,
    /// Wait for this many answers
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    replies: u32,
    /// Print all answers that come until the wait is over
    #[arg(short, long, conflicts_with = "replies")]
    all: bool,
    /// Maximum time to wait for answers
    #[arg(short, long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Add a header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = Header::from_str)]
    headers: Vec<Header>,
    /// Print answers byte for byte, with nothing between them
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print each answer as a JSON object on a line of its own, as `kcpq sub --json` does
    #[arg(long)]
    json: bool,
}

impl Request {
    /// Publishes the message and prints the answers. Nobody there is a failure, too few answers are a timeout.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let payload = match &self.payload {
            Some(payload) => payload.clone().into_bytes(),
            None => {
                let mut payload = Vec::new();
                io::stdin().lock().read_to_end(&mut payload)?;
                payload
            }
        };
        let client = self.server.connect("kcpq req").await?;
        let asked = self.ask(&client, &payload).await;
        let closed = client.close().await;
        asked?;
        Ok(closed?)
    }

    async fn ask(&self, client: &Client, payload: &[u8]) -> Result<(), Failure> {
        let request = client.request(&self.subject, payload).within(self.wait);
        let mut replies = request.headers(self.headers.iter().map(Header::parts)).replies().await?;
        let mut received = 0;
        while (self.all || received < self.replies)
            && let Some(reply) = replies.next().await
        {
            received += 1;
            self.print(&reply)?;
        }
        self.outcome(&replies, received)
    }

    fn outcome(&self, replies: &Replies, received: u32) -> Result<(), Failure> {
        let wanted = if self.all { received.max(1) } else { self.replies };
        match replies.failure() {
            _ if received >= wanted => Ok(()),
            Some(RequestFailure::NoResponders) => {
                Err(Failure::Error(format!("nobody is subscribed to {}", self.subject)))
            }
            Some(RequestFailure::TimedOut) => {
                Err(Failure::Timeout(format!("timed out: {received} of {wanted} answers received")))
            }
            why => Err(RequestError::Failed(why.unwrap_or(RequestFailure::Closed)).into()),
        }
    }

    fn print(&self, reply: &Message) -> Result<(), Failure> {
        let format = match () {
            () if self.json => Format::Json,
            () if self.raw => Format::Raw,
            () => Format::Payload { terminal: io::stdout().is_terminal() },
        };
        let mut out = Vec::new();
        format.write(reply, None, &mut out);
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out).and_then(|()| stdout.flush())?;
        Ok(())
    }
}
