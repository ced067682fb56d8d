//! Guests: clients that come, do by lot what clients do, and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use kcpq_core::rng::Rng;
use kcpq_smol::{Address, Builder, Client, Lane, Subscription};
use smol::{Task, Timer};

use super::super::stop::Stop;
use super::Soak;
use super::letter::{Letter, Seen, Wrong};
use crate::Failure;

/// First and second tokens behind the subject that guests publish to.
const TOPICS: u32 = 20;
const KINDS: u32 = 5;
/// Subscriptions of a guest, and things that it does, at most.
const SUBSCRIPTIONS: usize = 4;
const DEEDS: u32 = 200;
/// A guest thinks for so long at most, and before it comes again.
const PAUSE_MS: u64 = 40;
/// Who could not come waits before it tries again.
const AGAIN: Duration = Duration::from_millis(500);
/// Messages that wait for a guest that reads slowly.
const CAPACITY: usize = 1_000;
const LANES: [Lane; 3] = [Lane::NORMAL, Lane::URGENT, Lane::BULK];

/// All guests of a run.
pub(super) struct Guests {
    builder: Builder,
    server: Address,
    subject: String,
    seed: u64,
    lives: AtomicU64,
    counts: Counts,
    stop: Stop,
}

#[derive(Debug, Default)]
struct Counts {
    came: AtomicU64,
    refused: AtomicU64,
    published: AtomicU64,
    received: AtomicU64,
    altered: AtomicU64,
    out_of_place: AtomicU64,
    answered: AtomicU64,
    answered_wrongly: AtomicU64,
    reconnected: AtomicU64,
    failed: AtomicU64,
}

/// What guests have done so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visits {
    /// Guests that got in.
    pub(super) came: u64,
    /// Guests that did not.
    pub(super) refused: u64,
    /// Messages.
    pub(super) published: u64,
    pub(super) received: u64,
    altered: u64,
    out_of_place: u64,
    /// Requests with the right answer.
    pub(super) answered: u64,
    answered_wrongly: u64,
    /// Connections that guests gave up for another one.
    pub(super) reconnected: u64,
    /// Operations that failed or were not done in time, publishes and requests among them.
    pub(super) failed: u64,
}

impl Visits {
    /// What must not be.
    pub(super) fn faults(&self) -> Vec<String> {
        let Self { altered, out_of_place, answered_wrongly, .. } = self;
        let counted = [
            (altered, "messages to guests were altered"),
            (out_of_place, "messages came to a guest twice, or after a later one of their publisher"),
            (answered_wrongly, "requests got the answer to something else"),
        ];
        let mut faults: Vec<_> = counted
            .into_iter()
            .filter(|(count, _)| **count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if self.came == 0 {
            faults.push(format!("none of {} guests got in", self.refused));
        }
        faults
    }
}

impl Guests {
    pub(super) fn new(soak: &Soak, seed: u64, stop: Stop) -> Result<Self, Failure> {
        Ok(Self {
            builder: soak.common.builder()?,
            server: soak.common.server.first()?,
            subject: format!("{}.guests", soak.subject),
            seed,
            lives: AtomicU64::new(0),
            counts: Counts::default(),
            stop,
        })
    }

    pub(super) fn visits(&self) -> Visits {
        let [came, refused] = [&self.counts.came, &self.counts.refused].map(read);
        let [published, received] = [&self.counts.published, &self.counts.received].map(read);
        let [altered, out_of_place] = [&self.counts.altered, &self.counts.out_of_place].map(read);
        let [answered, answered_wrongly] = [&self.counts.answered, &self.counts.answered_wrongly].map(read);
        let [reconnected, failed] = [&self.counts.reconnected, &self.counts.failed].map(read);
        Visits {
            came,
            refused,
            published,
            received,
            altered,
            out_of_place,
            answered,
            answered_wrongly,
            reconnected,
            failed,
        }
    }

    /// One guest after the other, until then.
    pub(super) async fn keep_place(self: Arc<Self>, place: u64, until: Instant) {
        let mut rng = Rng::with_seed(self.seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        while !self.is_over(until) {
            match self.builder.clone().connect(self.server.clone()).await {
                Ok(client) => {
                    add(&self.counts.came);
                    Guest::new(Arc::clone(&self), client, rng.fork()).live(until).await;
                }
                Err(_) => {
                    add(&self.counts.refused);
                    Timer::after(AGAIN).await;
                }
            }
            think(&mut rng).await;
        }
    }

    fn is_over(&self, until: Instant) -> bool {
        Instant::now() >= until || self.stop.is_asked()
    }

    /// Reads until the subscription ends.
    async fn read(self: Arc<Self>, mut subscription: Subscription, mut seen: Seen, pace: Option<Duration>) {
        while let Some(message) = subscription.next().await {
            add(&self.counts.received);
            match seen.take(message.payload(), message.is_kept()) {
                Ok(()) => {}
                Err(Wrong::Altered) => add(&self.counts.altered),
                Err(Wrong::OutOfPlace) => add(&self.counts.out_of_place),
            }
            if let Some(pace) = pace {
                Timer::after(pace).await;
            }
        }
    }
}

struct Guest {
    all: Arc<Guests>,
    client: Client,
    rng: Rng,
    life: u64,
    number: u64,
    /// The lane in which all is to come; one for all its subscriptions, since there is no order between lanes.
    lane: Option<Lane>,
    readers: Vec<Task<()>>,
}

impl Guest {
    fn new(all: Arc<Guests>, client: Client, mut rng: Rng) -> Self {
        let life = all.lives.fetch_add(1, Relaxed);
        let lane = rng.choice(LANES).filter(|_| rng.bool());
        Self { all, client, rng, life, number: 0, lane, readers: Vec::new() }
    }

    async fn live(mut self, until: Instant) {
        for _ in 0..self.rng.usize(0..=SUBSCRIPTIONS) {
            self.subscribe().await;
        }
        for _ in 0..self.rng.u32(0..=DEEDS) {
            if self.all.is_over(until) {
                break;
            }
            self.act().await;
        }
        self.leave().await;
    }

    async fn act(&mut self) {
        match self.rng.u8(0..100) {
            0..60 => self.publish().await,
            60..64 => self.ask().await,
            64 => self.subscribe().await,
            // Dropping it ends the subscription.
            65 => drop(self.readers.pop()),
            66 if self.rng.bool() => {
                self.client.force_reconnect();
                add(&self.all.counts.reconnected);
            }
            _ => think(&mut self.rng).await,
        }
    }

    async fn subscribe(&mut self) {
        let subject = &self.all.subject;
        let (topic, kind) = (self.rng.u32(0..TOPICS), self.rng.u32(0..KINDS));
        let pattern = match self.rng.u8(0..8) {
            0 => format!("{subject}.>"),
            1 => format!("{subject}.*.{kind}"),
            2..4 => format!("{subject}.{topic}.*"),
            _ => format!("{subject}.{topic}.{kind}"),
        };
        let subscribe = self.client.subscribe(&pattern).capacity(CAPACITY);
        let shared = self.rng.u8(0..4) == 0;
        let subscribed = match self.lane {
            _ if shared => subscribe.queue("guests").await,
            Some(lane) => subscribe.lane(lane).await,
            None => subscribe.await,
        };
        // A few read slowly.
        let pace = (self.rng.u8(0..8) == 0).then(|| Duration::from_millis(self.rng.u64(1..20)));
        match subscribed {
            Ok(subscription) => {
                let reading = Arc::clone(&self.all).read(subscription, Seen::new(shared), pace);
                self.readers.push(smol::spawn(reading));
            }
            Err(_) => add(&self.all.counts.failed),
        }
    }

    async fn publish(&mut self) {
        let (topic, kind) = (self.rng.u32(0..TOPICS), self.rng.u32(0..KINDS));
        let subject = format!("{}.{topic}.{kind}", self.all.subject);
        let most = match self.rng.u8(0..100) {
            0..90 => 200,
            90..98 => 4_000,
            _ => 60_000,
        };
        let index = self.rng.usize(0..LANES.len());
        let lane = LANES[index];
        self.number += 1;
        let letter = Letter { life: self.life, number: self.number, lane: index as u8 };
        let payload = letter.write(self.rng.usize(0..most));
        let publish = self.client.publish(&subject, payload).lane(lane);
        let done = match self.rng.u8(0..20) {
            // What is to be kept comes in lane 0 whatever its own is.
            0 if lane == Lane::NORMAL => publish.retain().ttl(Duration::from_secs(1)).await.is_ok(),
            1 => publish.confirmed().await.is_ok(),
            _ => publish.await.is_ok(),
        };
        add(if done { &self.all.counts.published } else { &self.all.counts.failed });
    }

    async fn ask(&mut self) {
        let subject = format!("{}.echo", self.all.subject.trim_end_matches(".guests"));
        self.number += 1;
        let question = Letter { life: self.life, number: self.number, lane: 0 }.write(self.rng.usize(0..500));
        let counts = &self.all.counts;
        match self.client.request(&subject, &question).await {
            Ok(answer) if answer.payload() == question => add(&counts.answered),
            Ok(_) => add(&counts.answered_wrongly),
            Err(_) => add(&counts.failed),
        }
    }

    /// It goes, in one of the ways in which clients do.
    async fn leave(mut self) {
        match self.rng.u8(0..4) {
            0 => drop(self.client.drain().await),
            1 => drop(self.client.flush().await),
            2 => drop(self.client.close().await),
            // The last handles close it.
            _ => {}
        }
        self.readers.clear();
    }
}

async fn think(rng: &mut Rng) {
    Timer::after(Duration::from_millis(rng.u64(0..=PAUSE_MS))).await;
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}
