//! The kcpq client for microcontrollers: reliable publish/subscribe over UDP, without `std` and without an allocator.
//!
//! All memory is one [`Resources`], usually a `static`, sized by const generics. It is split into a [`Client`], which
//! is `Copy` and goes to every task that publishes or subscribes, and a [`Runner`], whose `run` moves datagrams and
//! drives the timers. The protocol is in [`kcpq_core::client`]; this crate adds memory, transport and time.
//!
//! ```no_run
//! # #[cfg(feature = "embassy-time")]
//! # mod firmware {
//! use embassy_sync::blocking_mutex::raw::NoopRawMutex;
//! use kcpq_embassy::{Client, Config, Resources, Runner, Transport, time};
//! use static_cell::ConstStaticCell;
//!
//! // Datagrams of 512 B, windows of 4, a send queue of 1 KiB, messages of up to 1 KiB, 4 subscriptions.
//! type Memory = Resources<'static, NoopRawMutex, 512, 4, 1024, 1024, 4>;
//! static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
//!
//! fn start(seed: u64) -> (Client<'static, NoopRawMutex>, Runner<'static, NoopRawMutex>) {
//!     MEMORY.take().split(&Config::default(), time::now, seed)
//! }
//!
//! async fn run(mut runner: Runner<'static, NoopRawMutex>, mut udp: impl Transport) {
//!     runner.run(&mut udp, &mut time::Timer).await;
//! }
//!
//! async fn publish(client: Client<'static, NoopRawMutex>) {
//!     let _ = client.publish("sensors.kitchen.temperature", b"21.5").await;
//! }
//!
//! async fn listen(client: Client<'static, NoopRawMutex>) {
//!     let Ok(mut commands) = client.subscribe("commands.kitchen.*").await else { return };
//!     while let Ok(on) = commands.next(|message| message.payload() == b"on").await {
//!         let _ = on;
//!     }
//! }
//! # }
//! ```
//!
//! # Every subscription has to be read
//! A received message is lent to its reader where it lies, in the receive window; it is not copied. Until it has been
//! read, everything received after it waits (head-of-line blocking), and when the window is full the server stops
//! sending. A message that has not been read within [`Config::patience`] is skipped, counted and reported
//! ([`Event::Unread`]). Publishing is not affected.
//!
//! # Features
//! | feature | what it brings |
//! |---|---|
//! | `embassy-net` | `net::Udp`, a [`Transport`] on a socket of embassy-net |
//! | `dns` | `named::NamedUdp`, the same to a server that has a name, which may move; implies `embassy-net` |
//! | `embedded-nal-async` | `nal::Udp`, a [`Transport`] on any UDP stack of that crate |
//! | `embassy-time` | `time::now` and `time::Timer` |
//! | `native` | native datagrams: short headers, and a session that goes on at another address and hears of a restart |
//! | `sealed` | [`Resources::split_sealed`](Resources): sealed sessions, with keys of both sides |
//! | `redundancy` | on lossy links lone segments go twice, so that a loss does not cost a round trip |
//! | `retain` | [`Client`]'s `publish_retained` and `try_publish_retained`: messages that the server keeps as last values |
//! | `ttl` | [`Client`]'s `publish_for` and `try_publish_for`: messages that are forgotten if they wait too long |
//! | `headers` | [`Client`]'s `publish_with` and `try_publish_with`, [`Message::properties`]: headers, and subjects for answers |
//! | `request` | [`Client`]'s `inbox`: requests, and their answers; implies `headers` |
//! | `queue` | [`Client`]'s `subscribe_queue`: membership of queue groups |
//! | `confirm` | [`Publish`]'s `confirmed` and `stored`: the server says what became of a message, or where JetStream has stored it, in memory that `lend_confirms` lends |
//! | `lanes` | [`Publish`]'s `lane` and `latest`, [`Client`]'s `subscribe_as`: streams beside each other, in memory that `lend_lanes` lends |
//! | `will` | [`Client`]'s `set_will` and `clear_will`: a message that the server publishes if the client is lost |
//! | `bbr` | congestion control by BBR, for windows that are larger than the BDP of a link |
//! | `mtud` | path MTU discovery, for datagrams of more than 1232 bytes |
//! | `defmt` | `defmt::Format` on every public value, and each [`Event`] as a line of the log |
//! | `log` | each [`Event`] as a line of the log of that crate |
//!
//! Without them, bring a [`Transport`], a [`Timer`] and a function that returns the time.

#![no_std]
#![forbid(unsafe_code)]
// docs.rs says of each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod config;
#[cfg(feature = "confirm")]
mod confirm;
mod event;
#[cfg(feature = "request")]
mod inbox;
#[cfg(feature = "embedded-nal-async")]
pub mod nal;
#[cfg(feature = "dns")]
pub mod named;
#[cfg(feature = "embassy-net")]
pub mod net;
mod publish;
mod resources;
mod runner;
mod shared;
mod subscription;
#[cfg(feature = "embassy-time")]
pub mod time;
mod transport;

pub use client::Client;
pub use config::Config;
#[cfg(feature = "confirm")]
pub use confirm::{Confirm, ConfirmError, ConfirmMemory, Store, StoreError, StoreFailure};
pub use event::{Closed, Ended, Event, Stats, SubscribeError};
#[cfg(feature = "request")]
pub use inbox::{Inbox, RequestError};
#[cfg(feature = "confirm")]
pub use kcpq_core::client::ConfirmFailure;
#[cfg(any(feature = "confirm", feature = "lanes"))]
pub use kcpq_core::client::LendError;
#[cfg(feature = "will")]
pub use kcpq_core::client::Will;
pub use kcpq_core::client::{Disconnect, Message, PublishError, State, SubscribeFailure, SubscriptionId};
#[cfg(feature = "lanes")]
pub use kcpq_core::client::{LaneMemory, Subscribing};
#[cfg(feature = "headers")]
pub use kcpq_core::frame::{Properties, PropertyError, properties::Writer as PropertiesWriter};
#[cfg(feature = "lanes")]
pub use kcpq_core::lane::{Lane, Priority};
#[cfg(feature = "confirm")]
pub use kcpq_core::puback::{Rejection, Stored};
#[cfg(feature = "sealed")]
pub use kcpq_core::seal::{PrivateKey, PublicKey, SharedSecret, StartError, Token, Trust};
pub use kcpq_core::subject::{Pattern, Subject};
pub use kcpq_core::{Duration, Instant, pattern, subject};
pub use publish::Publish;
pub use resources::Resources;
pub use runner::Runner;
pub use subscription::Subscription;
pub use transport::{Timer, Transport};

/// The example of README.md is compiled, too.
#[cfg(all(doctest, feature = "embassy-net", feature = "embassy-time"))]
#[doc = include_str!("../README.md")]
mod readme {}
