//! `kcpq sub`.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::future::{IntoFuture, poll_fn};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use async_io::Timer;
use clap::{Args, Parser, ValueEnum};
use futures_lite::future::{or, pending, poll_once, yield_now};
use futures_lite::{FutureExt, Stream};
use kcpq_core::subject::{Limits, Pattern, Subject};
use kcpq_smol::{Client, Disconnect, Event, Events, Lane, Message, SealedBy, Subscription};

use super::format::Format;
use super::interrupt::Interrupt;
use super::reader::Reader;
use super::will::WillArg;
use super::{Failure, ServerArg, figures, lane, say};

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
    /// Print payloads only, byte for byte, with nothing between them
    #[arg(short, long, conflicts_with_all = ["lines", "json"])]
    raw: bool,
    /// Print payloads only, each on a line of its own; line ends in them are printed as \n and \r
    #[arg(long, conflicts_with = "json")]
    lines: bool,
    /// Print each message as a JSON object on a line of its own, with subject and payload, or payload_base64 if it is
    /// not UTF-8; with headers and reply_to, if it has such; and with kept_ms if it is not new but was kept by the
    /// server for so many milliseconds, as the last value of its subject; and with sequence, stored_at and deliveries if it was
    /// stored
    #[arg(long)]
    json: bool,
    /// Print headers as well, each on a line before the message
    #[arg(long, conflicts_with_all = ["raw", "lines", "json"])]
    headers: bool,
    /// Print subjects only
    #[arg(long, conflicts_with_all = ["raw", "lines", "json", "headers"])]
    subjects_only: bool,
    /// Print when each message came (UTC), before it or as its time
    #[arg(short, long, conflicts_with = "raw")]
    timestamps: bool,
    /// Print no messages
    #[arg(long)]
    quiet: bool,
    /// Write messages to this file in place of printing them, as --json does unless something else is asked for; one that is
    /// there is overwritten
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Once a second, say on standard error how many messages came, were dropped and wait
    #[arg(long)]
    stats: bool,
    /// Latest only: of the messages of one subject that wait, at the server and here, just the newest is kept
    #[arg(short, long, conflicts_with = "queue")]
    latest: bool,
    /// Without the last values that the server has kept of subjects: only what is published from now on
    #[arg(long)]
    no_kept: bool,
    /// In this lane, in whichever the messages are published: urgent, normal or bulk, or its number from 0 to 7
    #[arg(long, value_name = "LANE", value_parser = lane::parse)]
    lane: Option<Lane>,
    /// As a member of this queue group: each message goes to one member
    #[arg(short, long, value_name = "GROUP")]
    queue: Option<String>,
    #[command(flatten)]
    stored: StoredArg,
    #[command(flatten)]
    will: WillArg,
    /// What is dropped when messages arrive faster than they can be printed [default: newest, with --latest oldest]
    #[arg(long, value_name = "WHICH")]
    drop: Option<Drop>,
}

/// What of the past is wanted, of a server that stands on a backbone with a store. What is stored later follows.
#[derive(Debug, Args)]
struct StoredArg {
    /// With what is stored, from the oldest message on; then what is stored from now on
    #[arg(long, group = "start", conflicts_with_all = ["queue", "latest", "no_kept"])]
    from_start: bool,
    /// With what was stored no longer ago than this, and what follows
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, group = "start",
          conflicts_with_all = ["queue", "latest", "no_kept"])]
    since: Option<Duration>,
    /// With what is stored from this sequence on
    #[arg(long, value_name = "SEQUENCE", group = "start", conflicts_with_all = ["queue", "latest", "no_kept"])]
    from: Option<u64>,
    /// With the newest message that is stored of each subject, and what follows
    #[arg(long, group = "start", conflicts_with_all = ["queue", "latest", "no_kept"])]
    last: bool,
    /// With what is stored and was not acknowledged under this name, of letters, digits, - and _. Each message is when it has
    /// been printed; several programs share them. Where it begins counts only the first time: from the start, unless said
    #[arg(long, value_name = "NAME", conflicts_with_all = ["queue", "latest", "no_kept"])]
    durable: Option<String>,
}

impl StoredArg {
    fn apply<'c>(&self, mut subscribe: kcpq_smol::Subscribe<'c>) -> kcpq_smol::Subscribe<'c> {
        if self.from_start {
            subscribe = subscribe.from_start();
        }
        if let Some(ago) = self.since {
            subscribe = subscribe.since(ago);
        }
        if let Some(sequence) = self.from {
            subscribe = subscribe.from(sequence);
        }
        if self.last {
            subscribe = subscribe.last();
        }
        match &self.durable {
            Some(name) => subscribe.durable(name),
            None => subscribe,
        }
    }
}

/// What is dropped when a queue is full.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Drop {
    Newest,
    Oldest,
}

/// What came so far.
#[derive(Debug, Default)]
struct Tally {
    messages: Cell<u64>,
    /// Of their payloads.
    bytes: Cell<u64>,
    /// Messages for which there was no room here.
    dropped: Cell<u64>,
    /// Those that wait to be printed.
    queued: Cell<usize>,
}

/// What ended the wait for a message.
enum Next {
    Message(Message),
    /// No subscription is left.
    End,
    Silence,
    Interrupt,
    /// Nobody reads any more.
    ReaderGone,
}

/// What ends the program early.
struct Stop {
    interrupt: Interrupt,
    reader: Reader,
}

impl Stop {
    /// Waits for a signal, or until nobody reads what is printed.
    async fn come(&mut self) -> Next {
        let interrupt = async {
            self.interrupt.come().await;
            Next::Interrupt
        };
        let gone = async {
            self.reader.gone().await;
            Next::ReaderGone
        };
        or(interrupt, gone).await
    }
}

/// Messages that may wait to be printed, for each subject.
const QUEUE: usize = 1 << 20;
/// As many bytes are printed at once, if there is more than one message.
const BATCH: usize = 64 << 10;
/// How often it is said what came.
const REPORTED_EVERY: Duration = Duration::from_secs(1);
/// How long a write that is under way may take when the program is to end.
const LAST_WRITE: Duration = Duration::from_millis(500);

impl Subscribe {
    /// Prints messages until the count is reached, the wait is over, a signal comes, or nobody reads.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.output()?;
        let reader = if self.dump.is_some() { Reader::nobody() } else { Reader::watch() };
        let mut stop = Stop { interrupt: Interrupt::listen()?, reader };
        let connected = or(async { Ok(self.connect().await) }, async { Err(stop.come().await) });
        let (client, mut subscriptions) = match connected.await {
            Ok(connected) => connected?,
            Err(stopped) => return self.stopped(&stopped, 0),
        };
        let told = smol::spawn(tell(client.events(), client.sealed_by().copied()));
        // For scripts that wait for it.
        say(&format!("subscribed to {}", self.subject.join(", ")));
        let tally = Tally::default();
        let printed = self.print_all(&mut subscriptions, &output, &tally, &mut stop);
        let printed = or(printed, async { match self.report(&client, &tally).await {} }).await;
        tally.look_at(&subscriptions);
        let dropped = tally.dropped.get();
        drop(subscriptions);
        // Why it ends, if not well, is among what is still to be told.
        let told = Some(told).filter(|_| printed.is_err());
        let closed = client.close().await;
        if let Some(told) = told {
            told.await;
        }
        printed?;
        closed?;
        match dropped {
            0 => Ok(()),
            _ => Err(Failure::Error(format!(
                "{dropped} messages dropped: they arrived faster than they could be printed"
            ))),
        }
    }

    async fn connect(&self) -> Result<(Client, Vec<Subscription>), Failure> {
        let client = self.server.connect_with("kcpq sub", &self.will).await?;
        let mut asked = Vec::new();
        for subject in &self.subject {
            let subscribe = client.subscribe(subject).capacity(QUEUE);
            let subscribe = if self.latest { subscribe.latest() } else { subscribe };
            let subscribe = if self.no_kept { subscribe.without_kept() } else { subscribe };
            let subscribe = match self.lane {
                Some(lane) => subscribe.lane(lane),
                None => subscribe,
            };
            let subscribe = match &self.queue {
                Some(group) => subscribe.queue(group),
                None => subscribe,
            };
            let subscribe = match self.drop {
                Some(Drop::Newest) => subscribe.drop_newest(),
                Some(Drop::Oldest) => subscribe.drop_oldest(),
                None => subscribe,
            };
            let subscribe = self.stored.apply(subscribe);
            // All are asked for before the first is waited for: a round trip for each would add up.
            let mut subscribe = subscribe.into_future();
            let done = poll_once(&mut subscribe).await;
            asked.push((subscribe, done));
        }
        let mut subscriptions = Vec::new();
        for (subscribe, done) in asked {
            subscriptions.push(match done {
                Some(done) => done?,
                None => subscribe.await?,
            });
        }
        Ok((client, subscriptions))
    }

    /// Where messages go.
    fn output(&self) -> Result<Output, Failure> {
        let Some(path) = &self.dump else { return Ok(Output::Printed) };
        let file = File::create(path);
        let file = file.map_err(|error| Failure::Error(format!("cannot write to {}: {error}", path.display())))?;
        Ok(Output::Dumped(Arc::new(file), path.display().to_string()))
    }

    /// Says once a second what came, if that is wanted. It never ends.
    async fn report(&self, client: &Client, tally: &Tally) -> Infallible {
        if !self.stats {
            return pending().await;
        }
        let (mut messages, mut bytes, mut at) = (0, 0, Instant::now());
        loop {
            Timer::after(REPORTED_EVERY).await;
            let span = at.elapsed().as_secs_f64();
            let rate = |now: u64, before: u64| Some((now - before) as f64 / span);
            let line = format!(
                "{} msg/s, {}/s, {} in all; {} dropped, {} waiting; round trip {}",
                figures::rate(rate(tally.messages.get(), messages)),
                figures::bytes(rate(tally.bytes.get(), bytes)),
                tally.messages.get(),
                tally.dropped.get(),
                tally.queued.get(),
                figures::span(client.round_trip().map(|span| span.as_secs_f64())),
            );
            (messages, bytes, at) = (tally.messages.get(), tally.bytes.get(), Instant::now());
            smol::unblock(move || say(&line)).await;
        }
    }

    /// Appends a message to what is to be printed, and counts it. If it is acknowledged then, it goes to `taken`.
    fn take(&self, message: Message, format: Format, tally: &Tally, out: &mut Vec<u8>, taken: &mut Vec<Message>) {
        tally.messages.set(tally.messages.get() + 1);
        tally.bytes.set(tally.bytes.get() + message.payload().len() as u64);
        if !self.quiet {
            format.write(&message, self.timestamps.then(SystemTime::now), out);
        }
        if self.stored.durable.is_some() {
            taken.push(message);
        }
    }

    async fn print_all(
        &self,
        subscriptions: &mut [Subscription],
        output: &Output,
        tally: &Tally,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let format = self.format();
        let (mut received, mut out, mut taken) = (0, Vec::new(), Vec::new());
        // Each of these has what is for it alone.
        let apart = self.queue.is_some() || self.stored.durable.is_some();
        let enough = |received| self.count.is_some_and(|count| received >= count);
        while !enough(received) {
            match next(subscriptions, apart, self.wait, stop).await {
                Next::Message(message) => {
                    received += 1;
                    self.take(message, format, tally, &mut out, &mut taken);
                }
                Next::Silence if self.count.is_some() => {
                    let count = self.count.unwrap_or_default();
                    return Err(Failure::Timeout(format!("timed out: {received} of {count} messages received")));
                }
                Next::Silence => break,
                stopped @ (Next::Interrupt | Next::ReaderGone) => return self.stopped(&stopped, received),
                Next::End => return Err(Failure::Error("no subscription is left".into())),
            }
            // What waits already goes with it.
            while !enough(received)
                && out.len() < BATCH
                && let Some(Next::Message(message)) = poll_once(next_message(subscriptions, apart)).await
            {
                received += 1;
                self.take(message, format, tally, &mut out, &mut taken);
            }
            tally.look_at(subscriptions);
            match output.print(&mut out, stop).await {
                // One that cannot be told comes again.
                Ok(None) => taken.drain(..).for_each(|message| _ = message.ack()),
                Ok(Some(stopped)) => return self.stopped(&stopped, received),
                // Nobody reads any more.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(Failure::Error(format!("cannot write to {output}: {error}"))),
            }
        }
        Ok(())
    }

    /// How it ends when it is told to: well, unless it was to wait for more messages. Who reads no more wants no more.
    fn stopped(&self, why: &Next, received: u64) -> Result<(), Failure> {
        match (why, self.count) {
            (Next::Interrupt, Some(count)) if received < count => {
                Err(Failure::Timeout(format!("interrupted: {received} of {count} messages received")))
            }
            _ => Ok(()),
        }
    }

    fn format(&self) -> Format {
        let terminal = self.dump.is_none() && io::stdout().is_terminal();
        match () {
            () if self.json => Format::Json,
            () if self.lines => Format::Lines,
            () if self.raw => Format::Raw,
            () if self.subjects_only => Format::Subject { terminal },
            () if self.dump.is_some() && !self.headers => Format::Json,
            () if terminal => Format::Terminal { headers: self.headers },
            () => Format::Text { headers: self.headers },
        }
    }
}

impl Tally {
    /// Notes how it is with the queues.
    fn look_at(&self, subscriptions: &[Subscription]) {
        let stats = || subscriptions.iter().map(Subscription::stats);
        self.dropped.set(stats().map(|stats| stats.dropped).sum());
        self.queued.set(stats().map(|stats| stats.queued).sum());
    }
}

/// Where messages go.
enum Output {
    Printed,
    /// To this file, which is called so.
    Dumped(Arc<File>, String),
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Printed => f.write_str("standard output"),
            Self::Dumped(_, name) => f.write_str(name),
        }
    }
}

impl Output {
    /// Writes what is in `out`, and empties it. Says if the program is to end; a reader that stands still does not keep it from
    /// that.
    async fn print(&self, out: &mut Vec<u8>, stop: &mut Stop) -> io::Result<Option<Next>> {
        if out.is_empty() {
            // What else there is to do has its turn, however fast messages come.
            yield_now().await;
            return Ok(None);
        }
        let mut bytes = std::mem::take(out);
        let file = match self {
            Self::Printed => None,
            Self::Dumped(file, _) => Some(Arc::clone(file)),
        };
        let mut write = smol::unblock(move || {
            match file {
                Some(file) => (&*file).write_all(&bytes)?,
                None => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&bytes)?;
                    stdout.flush()?;
                }
            }
            bytes.clear();
            Ok::<_, io::Error>(bytes)
        });
        let written = async { Ok((&mut write).await) };
        let stopped = async { Err(stop.come().await) };
        let stopped = match written.or(stopped).await {
            Ok(written) => {
                *out = written?;
                return Ok(None);
            }
            Err(stopped) => stopped,
        };
        let over = async {
            Timer::after(LAST_WRITE).await;
        };
        let written = async {
            // The program ends, whatever came of it.
            let _ = write.await;
        };
        written.or(over).await;
        Ok(Some(stopped))
    }
}

/// The next message of any subscription, or the end of all. One that several give is told once; members of a group are given
/// each once anyway.
async fn next_message(subscriptions: &mut [Subscription], grouped: bool) -> Next {
    poll_fn(|cx| {
        let mut ended = 0;
        for index in 0..subscriptions.len() {
            let (before, rest) = subscriptions.split_at_mut(index);
            let Some(subscription) = rest.first_mut() else { break };
            loop {
                match Pin::new(&mut *subscription).poll_next(cx) {
                    Poll::Ready(Some(message)) if !grouped && is_told_by(before, &message) => {
                        continue;
                    }
                    Poll::Ready(Some(message)) => return Poll::Ready(Next::Message(message)),
                    Poll::Ready(None) => ended += 1,
                    Poll::Pending => {}
                }
                break;
            }
        }
        if ended == subscriptions.len() { Poll::Ready(Next::End) } else { Poll::Pending }
    })
    .await
}

/// Whether one of these subscriptions gives the message as well.
fn is_told_by(subscriptions: &[Subscription], message: &Message) -> bool {
    let Ok(subject) = Subject::new(message.subject(), &Limits::DEFAULT) else { return false };
    subscriptions.iter().any(|subscription| {
        Pattern::new(subscription.pattern(), &Limits::DEFAULT).is_ok_and(|pattern| pattern.matches(subject))
            && subscription.stats().active
    })
}

/// The same, or what else comes first.
async fn next(subscriptions: &mut [Subscription], grouped: bool, wait: Option<Duration>, stop: &mut Stop) -> Next {
    let silence = async {
        match wait {
            Some(wait) => {
                Timer::after(wait).await;
                Next::Silence
            }
            None => pending().await,
        }
    };
    // Whoever wants to stop does not wait for messages to be fewer.
    stop.come().or(next_message(subscriptions, grouped)).or(silence).await
}

/// Says on standard error what becomes of the connection.
async fn tell(mut events: Events, sealed_by: Option<SealedBy>) {
    let mut away = false;
    // What silence may mean is said once for each loss.
    let mut advice = sealed_by;
    while let Some(event) = events.next().await {
        match event {
            Event::Disconnected { why: Disconnect::NoAnswer, .. } if away => {
                if let Some(by) = advice.take() {
                    say(&format!("no answer, and who is not known gets none: {by}"));
                }
            }
            Event::Disconnected { .. } if away => {}
            Event::Disconnected { why, .. } => {
                away = true;
                say(&format!("connection lost: {why}; connecting again"));
            }
            Event::Reconnected { .. } => {
                away = false;
                advice = sealed_by;
                say("connected again");
            }
            Event::SubscriptionLost { pattern, why } => say(&format!("subscription to {pattern} lost: {why}")),
            Event::Denied { subject } => say(&format!("not permitted to publish to {subject}")),
            Event::WillRefused { why } => say(&why),
            Event::Refused { text } => say(&format!("the server says: {text}")),
            _ => {}
        }
    }
}
