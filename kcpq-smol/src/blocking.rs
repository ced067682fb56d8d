//! For programs without tasks: whatever is awaited elsewhere is waited for.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use kcpq_smol::Client;
//! use kcpq_smol::blocking::Wait;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect("127.0.0.1:4000").wait()?;
//!     let mut sensors = client.subscribe("sensors.>").within(Duration::from_secs(1)).wait()?;
//!     client.publish("sensors.kitchen", "21.5").wait()?;
//!     for message in sensors.iter() {
//!         println!("{}: {}", message.subject(), message.text());
//!     }
//!     client.close().wait()?;
//!     Ok(())
//! }
//! ```
//!
//! The client's own task runs elsewhere ([threads](crate#threads)), so it goes on whatever the program does meanwhile. A task
//! of an executor does not wait like this: it would keep its thread from all the others.

use std::future::IntoFuture;

use futures_lite::future::block_on;

use crate::message::Message;
use crate::subscription::Subscription;

/// Waits for an operation, or for any other future, on the calling thread.
pub trait Wait: IntoFuture {
    /// Blocks the thread until it is ready, and gives what it gives.
    fn wait(self) -> Self::Output;
}

impl<F: IntoFuture> Wait for F {
    fn wait(self) -> Self::Output {
        // Not that of async-io: the client's task waits for its socket with the reactor, and this thread, if it had that,
        // would have to wake it for each datagram.
        block_on(self.into_future())
    }
}

/// The messages of a subscription, each waited for: [`Subscription::iter`].
#[derive(Debug)]
pub struct Iter<'s> {
    subscription: &'s mut Subscription,
}

impl<'s> Iter<'s> {
    pub(crate) fn new(subscription: &'s mut Subscription) -> Self {
        Self { subscription }
    }
}

impl Iterator for Iter<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.subscription.next().wait()
    }
}

impl<'s> IntoIterator for &'s mut Subscription {
    type Item = Message;
    type IntoIter = Iter<'s>;

    fn into_iter(self) -> Iter<'s> {
        self.iter()
    }
}
