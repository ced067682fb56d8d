//! Runs a measurement with messages: connects, warms up, measures, waits for what is under way.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use kcpq_smol::{Client, Pool};
use smol::Timer;

use super::args::{Common, Connections, Phase, Plan};
use super::clock::{Clock, nanos};
use super::flow::Flow;
use super::outcome::{Fate, Outcome, Transport};
use super::payload;
use super::process::{self, Usage};
use super::publisher::Publisher;
use super::stop::Stop;
use super::subscriber::{self, Tally};
use crate::progress::{INTERVAL, Progress};
use crate::{Failure, say};

/// Who this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Roles {
    Publish,
    Subscribe,
    Both,
    /// Both, with somebody between them who answers each message with one on another subject.
    Ask,
}

impl Roles {
    /// What is published is also received here.
    pub(super) fn both(self) -> bool {
        matches!(self, Self::Both | Self::Ask)
    }

    /// Messages come here, from wherever.
    pub(super) fn receives(self) -> bool {
        self != Self::Publish
    }
}

/// Messages that may wait for a subscriber: far more than the windows between it and the publisher hold.
const QUEUE: usize = 4 << 20;
/// How often it is looked whether all has come; the end is taken from the subscribers' own clock readings.
const LOOK: Duration = Duration::from_millis(5);
/// So long after a signal whoever still publishes does not end by itself.
const GIVES_UP: Duration = Duration::from_millis(500);

/// Runs `plan`.
pub(super) async fn run(plan: &Plan, common: &Common, stop: &Stop) -> Result<Outcome, Failure> {
    let stopped = async {
        stop.asked().await;
        Err(Failure::Timeout("interrupted before all were connected".into()))
    };
    let mut bench = or(Running::set_up(plan, common, stop), stopped).await?;
    if !plan.warmup.is_zero() {
        let warmup = Phase { count: None, duration: Some(plan.warmup), ..plan.phase };
        let progress = Progress::new("warming up", None, false);
        if plan.roles == Roles::Subscribe {
            bench.receive(warmup, bench.clock.now(), &progress).await;
        } else {
            bench.publish(warmup, &progress).await?;
            bench.settle().await;
        }
    }
    let outcome = bench.measure().await?;
    bench.close().await;
    Ok(outcome)
}

struct Running<'p> {
    plan: &'p Plan,
    common: &'p Common,
    clock: Clock,
    clients: Vec<Client>,
    publishers: Vec<Publisher>,
    flow: Arc<Flow>,
    subscribers: Vec<Arc<Tally>>,
    tasks: Vec<smol::Task<kcpq_smol::Subscription>>,
}

/// Counters at one moment, to see what a phase added.
struct Marks {
    published: u64,
    delivered: u64,
    repeated: u64,
    missing: u64,
    dropped: u64,
    fate: Fate,
    transport: Transport,
    overrun: Option<u64>,
    own: Option<Usage>,
    server: Option<Usage>,
}

impl<'p> Running<'p> {
    async fn set_up(plan: &'p Plan, common: &'p Common, stop: &Stop) -> Result<Self, Failure> {
        let clock = Clock::start();
        let mut bench = Self {
            plan,
            common,
            clock,
            clients: Vec::new(),
            publishers: Vec::new(),
            flow: Arc::new(Flow::new(plan.window, plan.pubs, common.server.timeout, stop.clone())),
            subscribers: Vec::new(),
            tasks: Vec::new(),
        };
        let (to, from) = bench.subjects().await?;
        // Subscribers first, so that no message is published to nobody.
        let mut shared = None;
        for _ in 0..plan.subs {
            let client = bench.client(&mut shared).await?;
            let subscribe = client.subscribe(&from).capacity(QUEUE).max_bytes(usize::MAX);
            let subscription = match &plan.queue {
                Some(group) => subscribe.queue(group).await?,
                None => subscribe.await?,
            };
            let (tally, task) = subscriber::spawn(subscription, clock, Arc::clone(&bench.flow));
            bench.subscribers.push(tally);
            bench.tasks.push(task);
        }
        bench.flow.follow(&bench.subscribers);
        let mut shared = None;
        for index in 0..plan.pubs {
            let pool = bench.pool(&mut shared).await?;
            let flow = Arc::clone(&bench.flow);
            bench.publishers.push(Publisher::new(pool, &to, plan.size, index, clock, flow));
        }
        Ok(bench)
    }

    /// Where to publish to, and where messages come from. If these differ, somebody between them answers.
    async fn subjects(&mut self) -> Result<(String, String), Failure> {
        let subject = &self.plan.subject;
        if self.plan.roles != Roles::Ask {
            let below = if self.plan.sessions > 1 { ".*" } else { "" };
            return Ok((subject.clone(), format!("{subject}{below}")));
        }
        let (ask, answer) = (format!("{subject}.ask"), format!("{subject}.answer"));
        let client = self.client(&mut None).await?;
        let mut questions = client.subscribe(&ask).capacity(QUEUE).max_bytes(usize::MAX).await?;
        let to = answer.clone();
        self.tasks.push(smol::spawn(async move {
            while let Some(question) = questions.next().await {
                // An answer that cannot be sent is missing where answers are counted.
                let _ = client.publish(&to, question.payload()).await;
            }
            questions
        }));
        Ok((ask, answer))
    }

    /// A connection of its own, or the one that is shared.
    async fn client(&mut self, shared: &mut Option<Client>) -> Result<Client, Failure> {
        if let Some(client) = shared {
            return Ok(client.clone());
        }
        let client = self.common.connect().await?;
        self.clients.push(client.clone());
        if self.plan.connections == Connections::Shared {
            *shared = Some(client.clone());
        }
        Ok(client)
    }

    /// The same for who publishes, perhaps at another server.
    async fn pool(&mut self, shared: &mut Option<Pool>) -> Result<Pool, Failure> {
        if let Some(pool) = shared {
            return Ok(pool.clone());
        }
        let pool = self.common.connect_pool(self.plan.sessions, self.plan.pub_server.as_ref()).await?;
        self.clients.extend_from_slice(pool.sessions());
        if self.plan.connections == Connections::Shared {
            *shared = Some(pool.clone());
        }
        Ok(pool)
    }

    async fn measure(&mut self) -> Result<Outcome, Failure> {
        for tally in &self.subscribers {
            tally.take_latency();
        }
        let before = self.marks();
        let begin = self.clock.now();
        let progress = Progress::new(self.plan.name, self.total(), !self.common.no_progress);
        let (begin, end) = match self.plan.roles {
            Roles::Publish => {
                self.publish(self.plan.phase, &progress).await?;
                self.flush().await;
                (begin, self.clock.now())
            }
            Roles::Both | Roles::Ask => {
                self.publish(self.plan.phase, &progress).await?;
                self.settle().await;
                (begin, self.last())
            }
            Roles::Subscribe => {
                self.receive(self.plan.phase, begin, &progress).await;
                (self.first().max(begin), self.last())
            }
        };
        drop(progress);
        Ok(self.outcome(&before, &self.marks(), end.saturating_sub(begin)))
    }

    /// Messages to come, if that is known.
    fn total(&self) -> Option<u64> {
        let count = match (self.plan.phase.count, self.plan.phase.rate, self.plan.phase.duration) {
            (Some(count), ..) => count,
            (None, Some(rate), Some(duration)) => (rate * duration.as_secs_f64()) as u64,
            _ => return None,
        };
        Some(count.saturating_mul(u64::from(self.plan.pubs.max(1))))
    }

    /// Lets all publishers publish, and waits until they are done.
    async fn publish(&mut self, phase: Phase, progress: &Progress) -> Result<(), Failure> {
        let begin = self.clock.now();
        let offset = phase.rate.map_or(0.0, |rate| 1e9 / rate / f64::from(self.plan.pubs.max(1)));
        let tasks: Vec<_> = std::mem::take(&mut self.publishers)
            .into_iter()
            .enumerate()
            .map(|(index, mut publisher)| {
                // Those with a rate are spread over the time between two messages, as independent ones are.
                let begin = begin + (offset * index as f64) as u64;
                smol::spawn(async move { publisher.run(phase, begin).await.map(|()| publisher) })
            })
            .collect();
        let base = self.flow.published();
        let mut given_up_at = u64::MAX;
        while !tasks.iter().all(smol::Task::is_finished) {
            progress.at(self.flow.published() - base);
            if self.flow.stop().is_asked() {
                // Who waits for room is not waited for.
                given_up_at = given_up_at.min(self.clock.now() + nanos(GIVES_UP));
                if self.clock.now() >= given_up_at {
                    break;
                }
            }
            // A run that is over soon is not kept waiting.
            Timer::after(if self.clock.now() - begin < nanos(INTERVAL) { LOOK } else { INTERVAL / 4 }).await;
        }
        for task in tasks.into_iter().filter(|task| task.is_finished()) {
            self.publishers.push(task.await?);
        }
        Ok(())
    }

    /// Waits until the server has handled all that was published, as long as there is progress. What it did not confirm is
    /// told by what it has acknowledged.
    async fn flush(&self) {
        for client in &self.clients {
            if let Err(error) = client.flush().patient().await {
                say(&format!("the end is uncertain: {error}"));
            }
        }
    }

    /// Waits until all has been delivered, or nothing more comes.
    async fn settle(&self) {
        if self.plan.roles == Roles::Publish {
            return self.flush().await;
        }
        let expected = self.flow.published();
        let (mut seen, mut since) = (0, self.clock.now());
        let is_missing = |delivered| match self.plan.queue {
            Some(_) => delivered < expected,
            None => self.subscribers.iter().any(|tally| tally.delivered() < expected),
        };
        loop {
            let (now, delivered) = (self.clock.now(), self.sum(Tally::delivered));
            if !is_missing(delivered) {
                return;
            }
            if delivered != seen {
                (seen, since) = (delivered, now);
            } else if now - since > nanos(self.common.server.timeout) {
                return;
            }
            Timer::after(LOOK).await;
        }
    }

    /// Receives what others publish: until the count is reached, no more comes, or the time is over, which counts from
    /// `begin`, or from the first message of all if that comes later.
    async fn receive(&self, phase: Phase, begin: u64, progress: &Progress) {
        let (mut seen, mut since) = (0, None);
        loop {
            let (now, delivered) = (self.clock.now(), self.sum(Tally::delivered));
            progress.at(delivered);
            let enough = |tally: &Arc<Tally>| phase.count.is_some_and(|count| tally.delivered() >= count);
            let over = phase.duration.is_some_and(|duration| {
                self.first() != 0 && now.saturating_sub(self.first().max(begin)) > nanos(duration)
            });
            if self.subscribers.iter().all(enough) || over || self.flow.stop().is_asked() {
                return;
            }
            if delivered != seen {
                (seen, since) = (delivered, Some(now));
            } else if since.is_some_and(|since| now - since > nanos(self.common.server.timeout)) {
                return;
            }
            Timer::after(LOOK).await;
        }
    }

    fn outcome(&self, before: &Marks, after: &Marks, took: u64) -> Outcome {
        let seconds = took as f64 / 1e9;
        let sent = after.published - before.published;
        let heard = after.delivered - before.delivered;
        let (published, delivered, lost) = match self.plan.roles {
            Roles::Publish => {
                let acknowledged = after.fate.acknowledged - before.fate.acknowledged;
                (sent, acknowledged, sent.saturating_sub(acknowledged))
            }
            Roles::Both | Roles::Ask => (sent, heard, (sent * self.plan.copies()).saturating_sub(heard)),
            Roles::Subscribe => {
                // In a queue group others have what is missing.
                let lost = if self.plan.queue.is_some() { 0 } else { after.missing - before.missing };
                ((heard + lost) / self.plan.copies().max(1), heard, lost)
            }
        };
        let timed = self.plan.size >= payload::TIMED && self.plan.roles.receives();
        let latency = timed.then(|| {
            let mut all = subscriber::latency();
            for tally in &self.subscribers {
                // Fails only for a histogram that cannot grow.
                let _ = all.add(tally.take_latency());
            }
            all
        });
        Outcome {
            subs: self.plan.subs,
            published,
            delivered,
            lost,
            in_doubt: after.fate.in_doubt - before.fate.in_doubt,
            unsent: after.fate.unsent - before.fate.unsent,
            repeated: after.repeated - before.repeated,
            runs: self.subscribers.iter().map(|tally| tally.runs()).max().unwrap_or(0),
            wanted: self.plan.phase.count.filter(|_| self.plan.roles == Roles::Subscribe),
            slowest: self.subscribers.iter().map(|tally| tally.delivered()).min().unwrap_or(0),
            most: self.subscribers.iter().map(|tally| tally.delivered()).max().unwrap_or(0),
            dropped: after.dropped - before.dropped,
            seconds,
            latency,
            transport: after.transport.since(&before.transport),
            overrun: after.overrun.zip(before.overrun).map(|(after, before)| after.saturating_sub(before)),
            own: since(after.own, before.own),
            server: since(after.server, before.server),
        }
    }

    fn marks(&self) -> Marks {
        Marks {
            published: self.flow.published(),
            delivered: self.sum(Tally::delivered),
            repeated: self.sum(Tally::repeated),
            missing: self.sum(Tally::missing),
            dropped: self.sum(Tally::dropped),
            fate: Fate::of(&self.clients),
            transport: Transport::of(&self.clients),
            overrun: process::receive_buffer_errors(),
            own: process::usage(None),
            server: self.common.server_pid.and_then(|pid| process::usage(Some(pid))),
        }
    }

    fn sum(&self, count: impl Fn(&Tally) -> u64) -> u64 {
        self.subscribers.iter().map(|tally| count(tally)).sum()
    }

    fn first(&self) -> u64 {
        self.subscribers.iter().map(|tally| tally.first()).filter(|first| *first != 0).min().unwrap_or(0)
    }

    fn last(&self) -> u64 {
        self.subscribers.iter().map(|tally| tally.last()).max().unwrap_or(0)
    }

    async fn close(self) {
        drop((self.publishers, self.tasks));
        for client in self.clients {
            // The figures stand, whatever the server says at the end.
            let _ = client.close().await;
        }
    }
}

fn since(after: Option<Usage>, before: Option<Usage>) -> Option<Usage> {
    after.zip(before).map(|(after, before)| Usage { cpu: after.cpu - before.cpu, ..after })
}
