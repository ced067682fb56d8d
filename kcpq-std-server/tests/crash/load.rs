//! Publishers and subscribers of numbered messages in this process, and what became of each message.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kcpq_smol::{Backoff, Builder, Client, PublishError, Stats};
use smol::{Task, Timer};

use crate::support::wait::{LIMIT, until};

/// Bytes of a message, and with them what it takes in a queue at most.
pub(crate) const SIZE: usize = 200;
/// From one message of a publisher to the next.
const PACE: Duration = Duration::from_millis(2);
/// How far subscribers are behind publishers at most, for a case to be over.
const GO_ON: u64 = 200;

/// A client that notices within seconds, and is back at once.
pub(crate) fn quick() -> Builder {
    let millis = Duration::from_millis;
    Client::builder()
        .timeout(LIMIT)
        .heartbeat(millis(500))
        .connect_timeout(millis(1_000))
        .reconnect(Some(Backoff { base: millis(100), cap: millis(500) }))
}

/// A client as it is unless somebody says otherwise.
pub(crate) fn patient() -> Builder {
    Client::builder().timeout(LIMIT)
}

/// The message of this number.
pub(crate) fn message(number: u64, size: usize) -> String {
    format!("{number:<size$}")
}

/// The number of a message.
pub(crate) fn number(text: &str) -> u64 {
    text.trim_end().parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

/// One who publishes.
pub(crate) struct Publisher {
    pub(crate) client: Client,
    published: Arc<AtomicU64>,
    task: Option<Task<()>>,
    /// Numbers that were in flight when a connection was lost, of each time.
    pub(crate) doubts: Vec<Range<u64>>,
}

impl Publisher {
    fn start(client: Client, subject: String, stopped: Arc<AtomicBool>) -> Self {
        let published = Arc::new(AtomicU64::new(0));
        let (own, count) = (client.clone(), Arc::clone(&published));
        let task = smol::spawn(async move {
            while !stopped.load(Relaxed) {
                match own.publish(&subject, message(count.load(Relaxed), SIZE)).await {
                    Ok(()) => _ = count.fetch_add(1, Relaxed),
                    // Its queue is full as long as there is nobody to send to.
                    Err(PublishError::TimedOut { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                Timer::after(PACE).await;
            }
        });
        Self { client, published, task: Some(task), doubts: Vec::new() }
    }

    /// How many it has published.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Relaxed)
    }

    fn stats(&self) -> Stats {
        self.client.stats().client
    }

    /// Notes which numbers are in doubt since it has been looked at last: those behind what was acknowledged, and what was in
    /// doubt before. True if it is connected to nobody, and what was in flight is counted.
    fn note_doubts(&mut self, errors_before: u64) -> bool {
        let stats = self.stats();
        // What was in flight counts when the next attempt begins: when the first has failed it has.
        if stats.connected || stats.connection_errors < errors_before + 2 {
            return false;
        }
        let known: u64 = self.doubts.iter().map(|range| range.end - range.start).sum();
        let first = stats.messages_acknowledged + known;
        self.doubts.push(first..first + stats.dropped_in_doubt - known);
        true
    }

    fn is_in_doubt(&self, number: u64) -> bool {
        self.doubts.iter().any(|range| range.contains(&number))
    }
}

/// One who subscribes to everything.
pub(crate) struct Subscriber {
    pub(crate) client: Client,
    /// Numbers of each publisher, as they came.
    heard: Arc<Mutex<Vec<Vec<u64>>>>,
    _task: Task<()>,
}

impl Subscriber {
    async fn start(client: Client, publishers: usize) -> Self {
        let mut received = client.subscribe("load.*").await.unwrap();
        let heard = Arc::new(Mutex::new(vec![Vec::new(); publishers]));
        let own = Arc::clone(&heard);
        let task = smol::spawn(async move {
            while let Some(message) = received.next().await {
                let from: usize = message.subject().strip_prefix("load.").unwrap().parse().unwrap();
                own.lock().unwrap()[from].push(number(&message.text()));
            }
        });
        Self { client, heard, _task: task }
    }

    /// The number behind the last one that came of a publisher.
    fn next(&self, from: usize) -> u64 {
        self.heard.lock().unwrap()[from].last().map_or(0, |last| last + 1)
    }

    /// How many came.
    pub(crate) fn received(&self) -> u64 {
        self.heard.lock().unwrap().iter().map(|numbers| numbers.len() as u64).sum()
    }

    /// Numbers of a publisher that did not come. None came twice, nor after a later one.
    fn missing(&self, from: usize, published: u64) -> Vec<u64> {
        let heard = self.heard.lock().unwrap();
        let back = heard[from].windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(back, None, "of {from}: twice or out of order");
        let mut heard = heard[from].iter().copied().peekable();
        (0..published).filter(|number| heard.next_if_eq(number).is_none()).collect()
    }
}

/// All of them.
pub(crate) struct Load {
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) subscribers: Vec<Subscriber>,
    stopped: Arc<AtomicBool>,
    errors_before: Vec<u64>,
}

impl Load {
    /// Begins to publish when all have subscribed.
    pub(crate) async fn start(addr: &str, publishers: usize, subscribers: usize, builder: fn() -> Builder) -> Self {
        let connect = async || builder().connect(addr).await.unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let mut load =
            Self { publishers: Vec::new(), subscribers: Vec::new(), stopped, errors_before: vec![0; publishers] };
        for _ in 0..subscribers {
            load.subscribers.push(Subscriber::start(connect().await, publishers).await);
        }
        for from in 0..publishers {
            let client = connect().await;
            load.publishers.push(Publisher::start(client, format!("load.{from}"), Arc::clone(&load.stopped)));
        }
        load.go_on().await;
        load
    }

    /// Waits until every subscriber has more of every publisher than there was before. Returns how long that took.
    pub(crate) async fn go_on(&self) -> Duration {
        let begun = Instant::now();
        let goals: Vec<u64> = self.publishers.iter().map(|publisher| publisher.published() + GO_ON).collect();
        until("the load goes on", || {
            self.subscribers.iter().all(|sub| goals.iter().enumerate().all(|(from, goal)| sub.next(from) >= *goal))
        })
        .await;
        begun.elapsed()
    }

    fn clients(&self) -> impl Iterator<Item = &Client> {
        let publishers = self.publishers.iter().map(|publisher| &publisher.client);
        publishers.chain(self.subscribers.iter().map(|subscriber| &subscriber.client))
    }

    /// Waits until all clients have noticed that the server is not there, and notes which messages are in doubt.
    pub(crate) async fn lost(&mut self) {
        let mut noted = vec![false; self.publishers.len()];
        let Self { publishers, errors_before, .. } = self;
        until("the publishers notice", || {
            let each = publishers.iter_mut().zip(&*errors_before).zip(&mut noted);
            each.for_each(|((publisher, before), noted)| *noted = *noted || publisher.note_doubts(*before));
            noted.iter().all(|noted| *noted)
        })
        .await;
        until("the subscribers notice", || self.clients().all(|client| !client.is_connected())).await;
        self.errors_before = self.publishers.iter().map(|publisher| publisher.stats().connection_errors).collect();
    }

    /// True if no client has lost its connection.
    pub(crate) fn is_undisturbed(&self) -> bool {
        self.clients().all(|client| client.stats().client.connection_errors == 0)
    }

    /// Publishes no more, and waits until the last messages are everywhere.
    pub(crate) async fn finish(&mut self) -> Outcome {
        self.go_on().await;
        self.stopped.store(true, Relaxed);
        for publisher in &mut self.publishers {
            publisher.task.take().expect("it ends once").await;
            publisher.client.flush().patient().await.unwrap();
        }
        let published: Vec<u64> = self.publishers.iter().map(Publisher::published).collect();
        let is_last =
            |(from, published): (usize, &u64)| self.subscribers.iter().all(|sub| sub.next(from) == *published);
        until("the last messages are heard", || published.iter().enumerate().all(is_last)).await;
        for publisher in &self.publishers {
            let stats = publisher.stats();
            let noted: u64 = publisher.doubts.iter().map(|range| range.end - range.start).sum();
            assert_eq!(noted, stats.dropped_in_doubt, "nothing is in doubt but what was when all was lost");
            let known = stats.messages_acknowledged + stats.dropped_in_doubt;
            assert_eq!(known, publisher.published(), "what a publisher has published it knows the fate of: {stats:?}");
            let lost = (stats.dropped_overflow, stats.expired, stats.superseded, stats.lost_on_close);
            assert_eq!(lost, (0, 0, 0, 0), "{stats:?}");
        }
        let count = |wanted: fn(&Publisher, u64) -> bool| {
            let of = |subscriber: &Subscriber| -> u64 {
                let each = self.publishers.iter().zip(&published).enumerate();
                let missing = each.map(|(from, (publisher, published))| {
                    let numbers = subscriber.missing(from, *published);
                    numbers.into_iter().filter(|number| wanted(publisher, *number)).count() as u64
                });
                missing.sum()
            };
            self.subscribers.iter().map(of).sum()
        };
        Outcome {
            published: published.iter().sum(),
            in_doubt: self.publishers.iter().map(|publisher| publisher.stats().dropped_in_doubt).sum(),
            received: self.subscribers.iter().map(Subscriber::received).sum(),
            missing_in_doubt: count(Publisher::is_in_doubt),
            missing_before: count(|publisher, number| {
                publisher.doubts.first().is_none_or(|doubt| number < doubt.start)
            }),
            missing_after: count(|publisher, number| publisher.doubts.last().is_some_and(|doubt| number >= doubt.end)),
        }
    }
}

/// What became of all messages: sums over publishers and, but for the first two, over subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) published: u64,
    /// In flight when a connection was lost, as publishers have counted it.
    pub(crate) in_doubt: u64,
    pub(crate) received: u64,
    /// Those that did not come: in doubt, acknowledged before that, and published behind it.
    pub(crate) missing_in_doubt: u64,
    pub(crate) missing_before: u64,
    pub(crate) missing_after: u64,
}

impl Outcome {
    /// Everything came.
    pub(crate) fn is_all(&self, subscribers: u64) -> bool {
        self.received == self.published * subscribers && self.in_doubt == 0
    }
}
