#![doc = "The sans-IO core of kcpq."]
#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;

#[cfg(feature = "alloc")]
pub mod broker;
#[cfg(feature = "aes")]
pub mod cipher;
pub mod client;
pub mod datagram;
pub mod fec;
pub mod frame;
pub mod hello;
pub mod kcp;
pub mod rng;
#[cfg(feature = "alloc")]
pub mod router;
pub mod session;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod store;
pub mod subject;
pub mod time;

pub use time::{Duration, Instant};
