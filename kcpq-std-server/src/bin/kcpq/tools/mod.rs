//! What measures a server from outside. Nothing that serves, publishes or subscribes needs it.

pub(crate) mod bench;
