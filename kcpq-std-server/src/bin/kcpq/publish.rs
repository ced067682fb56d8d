//! `kcpq pub`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_io::Timer;
use clap::Parser;
use futures_lite::future::or;
use futures_lite::{FutureExt, StreamExt};
use kcpq_smol::{Client, ConfirmError, ConfirmFailure, Event, Lane, PublishError, StoreError, Stored};

use super::header::Header;
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::will::WillArg;
use super::{Failure, ServerArg, lane};

/// The flags of `kcpq pub`.
#[derive(Debug, Parser)]
pub(super) struct Publish {
    #[command(flatten)]
    server: ServerArg,
    /// Subject to publish to
    subject: String,
    /// The message; if absent, it is read from standard input
    payload: Option<String>,
    /// Read it from this file, or from standard input if that is -
    #[arg(short, long, value_name = "FILE", conflicts_with = "payload")]
    file: Option<PathBuf>,
    /// Publish each line of what is read as a message of its own, as it comes, without its line end
    #[arg(long, conflicts_with = "payload")]
    lines: bool,
    /// Publish the message so many times; of lines so many
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Time from one message to the next; without --count the message is published until a signal comes
    #[arg(short, long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    interval: Option<Duration>,
    /// Time to live: drop a message if it is still in a queue after this long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// Publish in this lane: urgent, normal or bulk, or its number from 0 to 7 (1 and 2 are urgent, 6 and 7 bulk). Messages of
    /// one lane do not wait for those of another
    #[arg(long, value_name = "LANE", value_parser = lane::parse)]
    lane: Option<Lane>,
    /// Of the messages of the subject that are under way only the latest counts: older ones that wait, or in another lane than
    /// 0 get lost, are not sent any more
    #[arg(long)]
    latest: bool,
    /// Keep the message as the last value of its subject, for those who subscribe later; an empty one takes it away
    #[arg(long)]
    retain: bool,
    /// Wait for each message until the server says how many clients it has given it to, and print that number; fail if the
    /// server has refused it
    #[arg(long)]
    confirm: bool,
    /// Wait for each message until a stream of JetStream behind the server has stored it, and print its number there, with
    /// "duplicate" behind it if it was there already; fail if it is not stored, or nobody knows
    #[arg(long, conflicts_with = "confirm")]
    stored: bool,
    /// Id under which it is stored once; of several messages each has it with its number behind, from 1
    #[arg(long, requires = "stored", value_name = "ID")]
    id: Option<String>,
    /// Add a header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = Header::from_str)]
    headers: Vec<Header>,
    /// Subject that answers are to go to
    #[arg(long, value_name = "SUBJECT")]
    reply_to: Option<String>,
    #[command(flatten)]
    will: WillArg,
    /// Show no progress bar (never shown unless standard error is a terminal)
    #[arg(long)]
    no_progress: bool,
}

/// What is published is read from there.
type Input = BufReader<Box<dyn Read + Send>>;

/// What there is to publish.
enum Messages {
    /// The same again and again.
    One(Vec<u8>),
    /// Those that come.
    Lines(Input),
}

impl Publish {
    /// Publishes, and waits until the server has handled the messages: as long as there is progress.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let messages = self.messages()?;
        let mut interrupt = Interrupt::listen()?;
        let connected = or(async { Some(self.server.connect_with("kcpq pub", &self.will).await) }, async {
            interrupt.come().await;
            None
        });
        let Some(client) = connected.await else { return self.interrupted(0) };
        let client = client?;
        let mut events = client.events();
        let progress = Progress::new("publishing", self.total(&messages), self.shows_progress());
        let mut published = 0;
        // A signal ends publishing, and a second one the program.
        let all = async {
            let done = self.publish_all(&client, messages, &mut published, &progress).await;
            done.map(|()| false)
        };
        let signal = async {
            interrupt.come().await;
            Ok(true)
        };
        let stopped: Result<bool, Failure> = all.or(signal).await;
        drop(progress);
        let flushed = match &stopped {
            Ok(_) => client.flush().patient().await,
            Err(_) => Ok(()),
        };
        let closed = client.close().await;
        let stopped = stopped?;
        flushed?;
        closed?;
        // What the server said stands before the end.
        while let Some(event) = events.next().await {
            match event {
                Event::Denied { subject } => {
                    return Err(Failure::Error(format!("not permitted to publish to {subject}")));
                }
                Event::WillRefused { why } => return Err(Failure::Error(why)),
                Event::Refused { text } if self.retain => return Err(Failure::Error(text.to_string())),
                _ => {}
            }
        }
        if stopped { self.interrupted(published) } else { Ok(()) }
    }

    /// What there is to publish, as far as it has to be known before.
    fn messages(&self) -> Result<Messages, Failure> {
        if let Some(payload) = &self.payload {
            return Ok(Messages::One(payload.clone().into_bytes()));
        }
        let path = self.file.as_deref().filter(|path| *path != Path::new("-"));
        let from = path.map_or_else(|| "standard input".into(), |path| path.display().to_string());
        let cannot = |error| Failure::Error(format!("cannot read {from}: {error}"));
        let mut input: Box<dyn Read + Send> = match path {
            Some(path) => Box::new(File::open(path).map_err(cannot)?),
            None => Box::new(io::stdin()),
        };
        if self.lines {
            return Ok(Messages::Lines(BufReader::new(input)));
        }
        let mut payload = Vec::new();
        input.read_to_end(&mut payload).map_err(cannot)?;
        Ok(Messages::One(payload))
    }

    /// How many messages there will be, if that is known.
    fn total(&self, messages: &Messages) -> Option<u64> {
        match messages {
            Messages::One(_) if self.interval.is_none() => Some(self.count.unwrap_or(1)),
            _ => self.count,
        }
    }

    fn shows_progress(&self) -> bool {
        let several = self.lines || self.interval.is_some() || self.count.is_some();
        several && !self.no_progress
    }

    /// How it ends after a signal: well, unless there was to be more.
    fn interrupted(&self, published: u64) -> Result<(), Failure> {
        let once = !self.lines && self.interval.is_none();
        let wanted = self.count.or_else(|| once.then_some(1));
        match wanted {
            Some(wanted) if published < wanted => {
                Err(Failure::Timeout(format!("interrupted: {published} of {wanted} messages published")))
            }
            _ => Ok(()),
        }
    }

    async fn publish_all(
        &self,
        client: &Client,
        messages: Messages,
        published: &mut u64,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let total = self.total(&messages);
        let (payload, mut input) = match messages {
            Messages::One(payload) => (payload, None),
            Messages::Lines(input) => (Vec::new(), Some(input)),
        };
        let mut due = self.interval.map(Timer::interval);
        while total.is_none_or(|total| *published < total) {
            // The first at once.
            if *published > 0
                && let Some(due) = &mut due
            {
                due.next().await;
            }
            let number = *published + 1;
            match input.take() {
                None => self.publish(client, &payload, number).await?,
                Some(before) => {
                    let (line, rest) = smol::unblock(move || read_line(before)).await;
                    let Some(line) = line? else { return Ok(()) };
                    self.publish(client, &line, number).await?;
                    input = Some(rest);
                }
            }
            *published += 1;
            progress.at(*published);
        }
        Ok(())
    }

    /// The id of the message of this number.
    fn id(&self, number: u64) -> String {
        let is_one = !self.lines && self.interval.is_none() && self.count.is_none();
        match &self.id {
            None => String::new(),
            Some(id) if is_one => id.clone(),
            Some(id) => format!("{id}{number}"),
        }
    }

    async fn publish(&self, client: &Client, payload: &[u8], number: u64) -> Result<(), Failure> {
        loop {
            let before = client.stats().queued;
            let headers = self.headers.iter().map(Header::parts);
            let mut publish = client.publish(&self.subject, payload).headers(headers);
            if let Some(subject) = &self.reply_to {
                publish = publish.reply_to(subject);
            }
            if self.retain {
                publish = publish.retain();
            }
            if self.latest {
                publish = publish.latest();
            }
            if let Some(lane) = self.lane {
                publish = publish.lane(lane);
            }
            if let Some(ttl) = self.ttl {
                publish = publish.ttl(ttl);
            }
            if self.confirm {
                let sessions = publish.confirmed().await.map_err(unconfirmed)?;
                writeln!(io::stdout(), "{sessions}")?;
                return Ok(());
            }
            if self.stored {
                let Stored { sequence, duplicate, .. } =
                    publish.stored().id(self.id(number)).await.map_err(|error| unstored(&error))?;
                writeln!(io::stdout(), "{sequence}{}", if duplicate { " duplicate" } else { "" })?;
                return Ok(());
            }
            match publish.await {
                // A slow link is no failure as long as the queue gets shorter.
                Err(PublishError::TimedOut { .. }) if client.stats().queued < before => {}
                done => return Ok(done?),
            }
        }
    }
}

/// How it ends if it is not known that a message was routed.
fn unconfirmed(error: ConfirmError) -> Failure {
    match error {
        ConfirmError::Failed(ConfirmFailure::TimedOut | ConfirmFailure::InDoubt) => Failure::Timeout(error.to_string()),
        _ => Failure::Error(error.to_string()),
    }
}

/// How it ends if it is not known that a message is stored.
fn unstored(error: &StoreError) -> Failure {
    if error.is_in_doubt() { Failure::Timeout(error.to_string()) } else { Failure::Error(error.to_string()) }
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
