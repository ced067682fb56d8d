//! The sans-IO core of kcpq: everything that can be decided without a socket, a clock, a thread or a log.
//!
//! The caller hands in datagrams and the time; the core hands out datagrams, events and the time at which it wants to be
//! called again. So every behaviour, timers included, runs in virtual time and can be repeated from a seed, and the same
//! code serves a microcontroller without an allocator and a server with ten thousand sessions.
//!
//! ```text
//! socket -> datagram -> engine -> frames -> client or broker -> frames -> engine -> datagram -> socket
//! ```
//!
//! | module | what it decides | it leaves to others |
//! |---|---|---|
//! | [`time`], [`rng`] | how moments are counted; chance from a seed | what the time is |
//! | `histogram` | how often values were how great | what they are |
//! | [`lane`] | what goes before what in a session | who says so |
//! | [`store`] | where bytes are kept: lent memory, or the allocator's | what they mean |
//! | [`subject`](mod@subject) | what a subject is, and what a pattern matches | who is interested |
//! | `header` | whose datagram it is, of native sessions | what is in it |
//! | [`frame`], [`hello`], [`puback`], [`replay`] | the bytes of frames | what they cause |
//! | [`kcp`] | a reliable byte stream over datagrams | what the bytes mean |
//! | [`outbox`] | which frames wait, and which are dropped meanwhile | what else goes before them |
//! | [`fec`], `cipher` | parity, and the original's encryption | which session has them |
//! | `seal` | sealed sessions: handshake, keys, datagrams | which session has them |
//! | [`datagram`] | what lies around segments | whose they are |
//! | [`session`] | which frame goes next | what the frames say |
//! | `router` | who gets a message | how |
//! | `access` | what an identity may do | who has which |
//! | [`client`], `broker` | everything else: the two ends | sockets and clocks |
//!
//! Methods are of four kinds, and their names say which: *commands* are plain verbs; `handle_…` takes from the network or
//! from time; `poll_…` gives to the caller, until `None`; the rest are getters. Any input is legal in any state: what comes
//! from the network can be dropped and counted, but causes no panic, no unbounded memory and no unbounded loop. The loop
//! of a driver is shown, and runs as a test, at [`kcp::Kcp`], [`client::Client`] and `broker::Broker`.
//!
//! # Features
//! They only add; none is on by default, and without any the crate needs neither `std` nor an allocator. What memory there
//! is and what an end does with it are apart: `alloc` and `std` change nothing that a peer could see.
//!
//! | feature | what it brings |
//! |---|---|
//! | `alloc` | heap store, router, permissions, broker |
//! | `std` | conversions to the time and errors of `std`; implies `alloc` |
//! | `bbr` | congestion control by BBR, which the presets then choose |
//! | `mtud` | path MTU discovery; says so in HELLO |
//! | `native` | native datagrams: short headers, and a session that is known by its name and not by its address; says so in HELLO |
//! | `pieces` | segments that have become too long for their path go in pieces; says so in HELLO; implies `mtud` and `alloc` |
//! | `lanes` | several streams in one session; says so in HELLO; implies `native` |
//! | `redundancy` | on lossy links lone segments go twice, so that a loss does not cost a round trip |
//! | `repair` | repairs inside of KCP, which rebuild what is lost; says so in HELLO; implies `redundancy` and `alloc` |
//! | `ttl` | messages with a time to live |
//! | `properties` | messages with properties: headers, where an answer is to go, that they are to be kept; says so in HELLO |
//! | `request` | requests, whose answers come back to who published them; implies `properties` and `alloc` |
//! | `confirm` | messages whose publishers are told what became of them; implies `properties` and `alloc` |
//! | `queue` | membership of queue groups for a client without an allocator; implies `properties`. With one it is always there |
//! | `will` | a last will: a message that a client leaves with the server, for the case that it is lost |
//! | `replay` | subscriptions to what is stored, for a client; implies `properties` and `alloc` |
//! | `kcp-modes` | KCP's message mode and its own congestion window, for peers that are not kcpq |
//! | `fec` | parity: kcp-go's Reed-Solomon around datagrams; says so in HELLO; implies `alloc` |
//! | `aes` | AES-256 as the original uses it, for compatibility only: no integrity, no replay protection |
//! | `sealed` | handshake and datagrams of sealed sessions, with ChaCha20-Poly1305 |
//! | `sealed-small` | the same in less flash, slower; implies `sealed` |
//! | `sealed-aes` | AES-256-GCM for them; implies `sealed` and `alloc` |
//! | `sim` | a seeded, simulated link for tests in virtual time; implies `alloc` |
//! | `full` | all of these but `sealed-small`, as tests and tools want them |
//! | `defmt` | `defmt::Format` on public values |

#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]
// docs.rs says of each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;

// What the tests of the library share with those beside it names the library as those do.
#[cfg(test)]
extern crate self as kcpq_core;

#[cfg(feature = "alloc")]
pub mod access;
#[cfg(feature = "alloc")]
pub mod broker;
#[cfg(feature = "aes")]
pub mod cipher;
pub mod client;
pub mod datagram;
pub mod fec;
#[cfg(any(feature = "fec", feature = "repair"))]
mod field;
pub mod frame;
#[cfg(feature = "alloc")]
mod hash;
#[cfg(any(feature = "native", feature = "sealed"))]
pub mod header;
pub mod hello;
#[cfg(feature = "alloc")]
pub mod histogram;
pub mod kcp;
pub mod lane;
pub mod outbox;
pub mod puback;
pub mod replay;
pub mod rng;
#[cfg(feature = "alloc")]
pub mod router;
#[cfg(feature = "sealed")]
pub mod seal;
pub mod session;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod store;
pub mod subject;
pub mod time;

pub use time::{Duration, Instant};

/// UDP port of a server whose address names none (PROTOCOL.md 7).
pub const DEFAULT_PORT: u16 = 4000;

/// The example of README.md is compiled, too.
#[cfg(all(doctest, feature = "alloc"))]
#[doc = include_str!("../README.md")]
mod readme {}
