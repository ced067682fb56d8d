//! Numbered messages of several publishers, as they came.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_lite::future::poll_once;
use kcpq_smol::Subscription;

use super::nats::NatsClient;

/// The numbers of each publisher, in the order in which they came: texts are PUBLISHER NUMBER.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<String, Vec<u32>>);

impl Tally {
    /// Takes in a text.
    ///
    /// # Panics
    /// If it is another one.
    pub(crate) fn take(&mut self, text: &str) {
        let (from, number) = text.split_once(' ').unwrap();
        self.0.entry(from.into()).or_default().push(number.parse().unwrap());
    }

    /// Takes in all that has come.
    pub(crate) async fn drain(&mut self, subscription: &mut Subscription) {
        while let Some(message) = poll_once(subscription.next()).await.flatten() {
            self.take(&message.text());
        }
    }

    /// Takes in all that has come to a client of NATS.
    pub(crate) fn drain_nats(&mut self, there: &mut NatsClient) {
        while let Some(message) = there.try_next(Duration::from_millis(1)) {
            self.take(&message.text);
        }
    }

    /// The numbers of one publisher.
    pub(crate) fn of(&self, from: &str) -> &[u32] {
        self.0.get(from).map_or(&[], |numbers| numbers)
    }

    /// True if there are so many publishers, and of each the numbers up to `count`, in order.
    pub(crate) fn is_all(&self, publishers: usize, count: u32) -> bool {
        self.0.len() == publishers && self.0.values().all(|numbers| numbers.iter().copied().eq(0..count))
    }

    /// How many there are.
    pub(crate) fn total(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}
