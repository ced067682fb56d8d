#![doc = "The sans-IO core of kcpq."]
#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;

pub mod frame;
pub mod kcp;
pub mod rng;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod store;
pub mod time;

pub use time::{Duration, Instant};
