#![doc = "The sans-IO core of kcpq."]
#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod time;

pub use time::{Duration, Instant};
