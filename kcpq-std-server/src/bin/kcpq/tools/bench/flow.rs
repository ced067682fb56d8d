//! A limit for the messages under way: publishers wait for the slowest subscriber.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use event_listener::Event;
use futures_lite::future::or;
use smol::Timer;

use super::stop::Stop;
use super::subscriber::Tally;

/// What publishers and subscribers of one measurement share.
#[derive(Debug)]
pub(super) struct Flow {
    /// Tells the publishers of this process from those of another.
    run: u32,
    /// Most messages under way; `None`: as many as the server takes.
    window: Option<u64>,
    /// How long nothing has to come before it is given up.
    patience: Duration,
    published: Vec<Arc<AtomicU64>>,
    subscribers: OnceLock<Vec<Arc<Tally>>>,
    delivered: Event,
    stop: Stop,
}

impl Flow {
    /// For so many publishers.
    pub(super) fn new(window: Option<u64>, publishers: u16, patience: Duration, stop: Stop) -> Self {
        let published = (0..publishers).map(|_| Arc::default()).collect();
        // Without random numbers all runs look like one.
        let run = getrandom::u32().unwrap_or_default();
        Self { run, window, patience, published, subscribers: OnceLock::new(), delivered: Event::new(), stop }
    }

    /// The run.
    pub(super) fn run(&self) -> u32 {
        self.run
    }

    /// Whether all is to end.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Names the subscribers to wait for.
    pub(super) fn follow(&self, subscribers: &[Arc<Tally>]) {
        // There is one measurement, and so one list.
        let _ = self.subscribers.set(subscribers.to_vec());
    }

    /// The limit.
    pub(super) fn window(&self) -> Option<u64> {
        self.window
    }

    /// The count of what a publisher has published.
    pub(super) fn counter(&self, publisher: u16) -> Arc<AtomicU64> {
        self.published.get(usize::from(publisher)).map(Arc::clone).unwrap_or_default()
    }

    /// Messages published so far by all.
    pub(super) fn published(&self) -> u64 {
        self.published.iter().map(|published| published.load(Relaxed)).sum()
    }

    /// Tells publishers that messages have come. It costs next to nothing when none waits.
    pub(super) fn progressed(&self) {
        if self.window.is_some() {
            self.delivered.notify(usize::MAX);
        }
    }

    /// How many messages a publisher may publish before it asks again, 1 at least; waits until there is room. `None`:
    /// nothing came for a long time, and what is missing is lost.
    pub(super) async fn room(&self) -> Option<u64> {
        let Some(window) = self.window else { return Some(u64::MAX) };
        loop {
            let progress = self.delivered.listen();
            let under_way = self.published().saturating_sub(self.slowest());
            if under_way < window {
                let publishers = self.published.len().max(1) as u64;
                return Some(((window - under_way) / publishers).max(1));
            }
            let come = async {
                progress.await;
                true
            };
            let over = async {
                Timer::after(self.patience).await;
                false
            };
            if !or(come, over).await {
                return None;
            }
        }
    }

    /// What the slowest subscriber has; all there is, where nobody subscribes.
    fn slowest(&self) -> u64 {
        let subscribers = self.subscribers.get().map_or(&[][..], Vec::as_slice);
        subscribers.iter().map(|tally| tally.delivered()).min().unwrap_or(u64::MAX)
    }
}
