//! Who is there all the time: a publisher and a subscriber, and one who answers guests.

use std::sync::Arc;
use std::time::Duration;

use kcpq_smol::{Client, Subscription};
use smol::{Task, Timer};

use super::super::args::Phase;
use super::super::clock::Clock;
use super::super::flow::Flow;
use super::super::publisher::Publisher;
use super::super::stop::Stop;
use super::super::subscriber::{self, Latency, Tally};
use super::Soak;
use crate::Failure;

/// Bytes of its messages.
const SIZE: usize = 128;
/// How long the last message may be under way.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

/// The pair, and who answers.
pub(super) struct Steady {
    rate: f64,
    clock: Clock,
    flow: Arc<Flow>,
    publisher: Publisher,
    tally: Arc<Tally>,
    counting: Task<Subscription>,
    answering: Task<()>,
    clients: Vec<Client>,
    so_far: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    published: u64,
    delivered: u64,
    repeated: u64,
}

/// What became of the messages of some time.
pub(super) struct Stretch {
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) repeated: u64,
    pub(super) latency: Latency,
}

impl Stretch {
    /// What should not have been.
    pub(super) fn fault(&self, when: &str) -> Option<String> {
        let lost = self.published.saturating_sub(self.delivered);
        (lost > 0 || self.repeated > 0).then(|| {
            format!(
                "{when} {lost} of {} messages from and to who was there all the time were lost, {} came twice",
                self.published, self.repeated
            )
        })
    }
}

impl Steady {
    pub(super) async fn set_up(soak: &Soak, clock: Clock, stop: Stop) -> Result<Self, Failure> {
        let subject = format!("{}.steady", soak.subject);
        let flow = Arc::new(Flow::new(None, 1, PATIENCE, stop));
        let subscriber = soak.common.connect().await?;
        let (tally, counting) = subscriber::spawn(subscriber.subscribe(&subject).await?, clock, Arc::clone(&flow));
        let answerer = soak.common.connect().await?;
        let mut questions = answerer.subscribe(&format!("{}.echo", soak.subject)).await?;
        let answering = smol::spawn({
            let answerer = answerer.clone();
            async move {
                while let Some(question) = questions.next().await {
                    // Who asked counts what is not answered.
                    let _ = question.respond(&answerer, question.payload()).await;
                }
            }
        });
        let pool = soak.common.connect_pool(1, None).await?;
        let mut clients = vec![subscriber, answerer];
        clients.extend(pool.sessions().iter().cloned());
        let publisher = Publisher::new(pool, &subject, SIZE, 0, clock, Arc::clone(&flow));
        let rate = soak.rate.into();
        Ok(Self { rate, clock, flow, publisher, tally, counting, answering, clients, so_far: Counts::default() })
    }

    /// Publishes for so long, and waits until all of it has come or nothing comes any more.
    pub(super) async fn publish(&mut self, span: Duration) -> Result<Stretch, Failure> {
        drop(self.tally.take_latency());
        let phase = Phase { count: None, duration: Some(span), rate: Some(self.rate) };
        self.publisher.run(phase, self.clock.now()).await?;
        let until = std::time::Instant::now() + PATIENCE;
        while self.tally.delivered() < self.flow.published() && std::time::Instant::now() < until {
            Timer::after(LOOK).await;
        }
        let now = Counts {
            published: self.flow.published(),
            delivered: self.tally.delivered(),
            repeated: self.tally.repeated(),
        };
        let before = std::mem::replace(&mut self.so_far, now);
        Ok(Stretch {
            published: now.published - before.published,
            delivered: now.delivered - before.delivered,
            repeated: now.repeated - before.repeated,
            latency: self.tally.take_latency(),
        })
    }

    pub(super) async fn close(self) {
        for client in &self.clients {
            // What was to be measured has been.
            let _ = client.close().await;
        }
        self.counting.await;
        self.answering.await;
    }
}
