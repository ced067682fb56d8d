//! The kcpq server: [`kcpq_core::broker`] on a UDP socket.
//!
//! ```
//! use kcpq_std_server::{Config, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind(Config { listen: "127.0.0.1:0".parse()?, ..Config::default() })?;
//! println!("listening on {}", server.local_addr());
//! server.shutdown();
//! # Ok(())
//! # }
//! ```
//!
//! The feature `cli`, on by default, builds the program `kcpq` and brings what that needs: for the library alone depend
//! on this crate with `default-features = false`.
//!
//! The feature `nats`, on by default as well, lets several servers be one over NATS (`Config::backbone`).
//!
//! The server decides nothing about the protocol: it moves datagrams between the socket and the broker, gives the broker
//! the time, and writes its events to the log (`tracing`). It writes from the threads that serve: a subscriber that waits
//! for a disk or a pipe makes all clients wait.

#![forbid(unsafe_code)]

#[cfg_attr(not(feature = "nats"), path = "absent/backbone.rs")]
mod backbone;
mod events;
mod failure;
mod handle;
mod kernel;
pub mod limits;
mod peer;
mod register;
mod replace;
mod server;
mod shard;
mod stream;
#[cfg(feature = "nats")]
mod uplink;
mod values;
mod view;

pub use backbone::Backbone;
#[cfg(feature = "nats")]
pub use backbone::{NatsAddress, NatsAddressError, NatsCredentials, NatsCredentialsError, NatsTls, NatsTlsError};
pub use kcpq_core::{access, broker};
pub use kernel::ReceiveQueues;
pub use server::{BindError, Config, Server, Snapshot};
pub use stream::Stream;
#[cfg(feature = "nats")]
pub use uplink::{Heard, Uplink, UplinkError, Upward};
pub use view::{BackboneView, Counters, Pattern, Session, StreamView, View};

/// The example of README.md is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
