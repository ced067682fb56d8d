//! What the integration tests share: a bad link, child processes, the Go peer, and patience.

// Each test is a crate of its own and uses a part only.
#![allow(dead_code)]

pub(crate) mod browser;
pub(crate) mod certificate;
#[cfg(feature = "nats")]
pub(crate) mod edge;
pub(crate) mod folder;
pub(crate) mod go;
pub(crate) mod jetstream;
pub(crate) mod nats;
#[cfg(target_os = "linux")]
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod process;
#[cfg(feature = "cli")]
pub(crate) mod program;
pub(crate) mod relay;
pub(crate) mod tally;
pub(crate) mod wait;
pub(crate) mod wall;
