//! The kcpq client on smol: publish and subscribe over KCP from any number of tasks.
//!
//! ```no_run
//! use kcpq_smol::Client;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let client = Client::connect("127.0.0.1:4000").await?;
//!     let mut greetings = client.subscribe("greet.*").await?;
//!     client.publish("greet.world", "hello").await?;
//!     if let Some(message) = greetings.next().await {
//!         println!("{}: {}", message.subject(), message.text());
//!     }
//!     client.close().await?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! A [`Client`] is a handle: cheap to clone, usable from many tasks at once. One background task per client does the
//! work; it ends when the last handle is dropped, [`Subscription`]s included.
//!
//! Every operation times out, after [`Builder::timeout`] or as `.within(span)` says. Every future is cancel-safe: if it
//! is dropped, what it began is either done completely or undone, as its documentation says.
//!
//! # Runtimes
//!
//! The futures know no runtime: they are awaited in tasks of smol, of tokio or of any other executor, and [`blocking`] waits for
//! them without one. Sockets and timers are those of async-io, whose thread every client shares.
//!
//! # Features
//!
//! `json`: payloads as JSON, by serde (`Client::publish_json`, `Message::json`).
//!
//! # Threads
//!
//! The background task runs on smol's global executor, which has one thread unless the environment variable `SMOL_THREADS`
//! says more. What blocks there, in any task of the program, stops all clients: no heartbeat leaves, and after 120 s the
//! server ends their sessions. [`Builder::own_thread`] gives a client a thread, and [`Builder::executor`] takes an executor of
//! the program's.
//!
//! A thread of its own waits for the client's socket and timers by itself, without async-io, and can do so
//! [without sleeping](Builder::spin) where the latency of single messages is worth a processor.
//!
//! Callbacks ([`Subscribe::for_each`]) and name look-ups run on smol's pool for blocking work, at most 500 threads at a time
//! unless `BLOCKING_MAX_THREADS` says otherwise: more callbacks than that which block at the same time hold each other up,
//! and look-ups as well. Each is woken by a task on the global executor. Who has many subscriptions reads them as streams.
//!
//! The protocol is in [`kcpq_core::client`]; this crate adds the socket, the clock and the tasks.

#![forbid(unsafe_code)]
// docs.rs says of each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
pub mod blocking;
mod builder;
mod client;
mod clock;
mod confirm;
mod connection;
mod direct;
mod error;
mod events;
mod headers;
mod joined;
#[cfg(feature = "json")]
mod json;
mod message;
#[cfg(all(test, kcpq_loom))]
mod model;
mod operation;
mod own;
mod paths;
mod place;
mod pool;
mod preset;
mod queue;
mod reading;
mod request;
mod route;
mod runner;
mod scratch;
mod seal;
mod shared;
mod staging;
mod store;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;
mod udp;
mod will;

pub use address::{Address, AddressError};
pub use builder::Builder;
pub use bytes::Bytes;
pub use client::{Client, Latency, Snapshot, Stats};
pub use confirm::Confirm;
pub use connection::{ConnectionState, ServerInfo, Watch};
pub use error::{
    CloseError, ConfirmError, ConnectError, FlushError, NextError, PingError, PublishError, RequestError, SettleError,
    StoreError, StoreFailure, SubscribeError,
};
pub use events::{Event, Events};
pub use headers::Headers;
pub use kcpq_core;
pub use kcpq_core::DEFAULT_PORT;
pub use kcpq_core::cipher::{Key, KeyError};
pub use kcpq_core::client::{
    ConfirmFailure, Disconnect, Overflow, PublishError as PublishRefusal, RequestError as RequestRefusal,
    RequestFailure, SubscribeError as SubscribeRefusal, SubscribeFailure,
};
pub use kcpq_core::frame::{FrameError, PropertyError};
pub use kcpq_core::hello::{CloseReason, Refusal};
pub use kcpq_core::kcp::{CongestionControl, Stats as TransportStats};
pub use kcpq_core::lane::{Lane, Priority};
pub use kcpq_core::puback::{Rejection, Stored};
pub use kcpq_core::seal::{KeyTextError, PrivateKey, PublicKey, SharedSecret, Token, TokenHash};
pub use kcpq_core::store::TooLarge;
pub use kcpq_core::subject::{Pattern, Subject, SubjectError};
pub use kcpq_core::{pattern, subject};
pub use message::Message;
pub use operation::{Close, Drain, Flush, Ping, Publish, Subscribe};
pub use place::Task;
pub use pool::{All, Pool, PoolBuilder};
pub use preset::{Backoff, Preset};
pub use queue::SubscriptionStats;
pub use reading::{Next, NextWithin, Unsubscribe};
pub use request::{Replies, Request};
pub use seal::SealedBy;
pub use store::Store;
pub use subscription::{CallbackSubscription, Subscription};
pub use will::Will;

/// The examples of README.md are compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
