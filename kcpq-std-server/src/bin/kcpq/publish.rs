//! `kcpq pub`.

use std::io::{self, BufRead, BufReader, Read};
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use kcpq_smol::{Client, Event, PublishError};

use super::header::Header;
use super::{Failure, ServerArg};

/// The flags of `kcpq pub`.
#[derive(Debug, Parser)]
pub(super) struct Publish {
    #[command(flatten)]
    server: ServerArg,
    /// Subject to publish to
    subject: String,
    /// The message; if absent, it is read from standard input
    payload: Option<String>,
    /// Publish each line of standard input as a message of its own, as it comes, without its line end
    #[arg(long, conflicts_with = "payload")]
    lines: bool,
    /// Time to live: drop a message if it is still in a queue after this long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// Keep the message as the last value of its subject, for those who subscribe later; an empty one takes it away
    #[arg(long)]
    retain: bool,
    /// Add a header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = Header::from_str)]
    headers: Vec<Header>,
}

/// Reads standard input.
type Input = BufReader<io::Stdin>;

impl Publish {
    /// Publishes, and waits until the server has handled the messages: as long as there is progress.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let payload = match &self.payload {
            Some(payload) => Some(payload.clone().into_bytes()),
            None if self.lines => None,
            None => {
                let mut payload = Vec::new();
                io::stdin().lock().read_to_end(&mut payload)?;
                Some(payload)
            }
        };
        let client = self.server.connect("kcpq pub").await?;
        let mut events = client.events();
        let done = async {
            match payload {
                Some(payload) => self.publish(&client, &payload).await?,
                None => self.publish_lines(&client).await?,
            }
            client.flush().patient().await?;
            Ok(())
        };
        let done: Result<(), Failure> = done.await;
        let closed = client.close().await;
        done?;
        closed?;
        // What the server said stands before the end.
        while let Some(event) = events.next().await {
            match event {
                Event::Denied { subject } => {
                    return Err(Failure::Error(format!("not permitted to publish to {subject}")));
                }
                Event::Refused { text } if self.retain => return Err(Failure::Error(text.to_string())),
                _ => {}
            }
        }
        Ok(())
    }

    async fn publish(&self, client: &Client, payload: &[u8]) -> Result<(), PublishError> {
        loop {
            let before = client.stats().queued;
            let headers = self.headers.iter().map(Header::parts);
            let publish = client.publish(&self.subject, payload).headers(headers);
            let publish = if self.retain { publish.retain() } else { publish };
            let done = match self.ttl {
                Some(ttl) => publish.ttl(ttl).await,
                None => publish.await,
            };
            match done {
                // A slow link is no failure as long as the queue gets shorter.
                Err(PublishError::TimedOut { .. }) if client.stats().queued < before => {}
                done => return done,
            }
        }
    }

    async fn publish_lines(&self, client: &Client) -> Result<(), Failure> {
        let mut input = BufReader::new(io::stdin());
        loop {
            let (line, back) = smol::unblock(move || read_line(input)).await;
            input = back;
            match line? {
                Some(line) => self.publish(client, &line).await?,
                None => return Ok(()),
            }
        }
    }
}

/// The next line, without its end; `None` when there is no more.
fn read_line(mut input: Input) -> (io::Result<Option<Vec<u8>>>, Input) {
    let mut line = Vec::new();
    let read = input.read_until(b'\n', &mut line);
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    (read.map(|count| (count > 0).then_some(line)), input)
}
