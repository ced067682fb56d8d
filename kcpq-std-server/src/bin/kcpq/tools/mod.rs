//! What measures and watches a server from outside. Nothing that serves, publishes or subscribes needs it.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod stream;
pub(crate) mod top;
