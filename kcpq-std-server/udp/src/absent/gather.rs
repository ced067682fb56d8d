//! Without a call that gathers and segments.

use std::io::{self, IoSlice};
use std::net::UdpSocket;

use crate::path::Path;

pub(crate) const GATHERS: bool = false;

/// # Errors
/// `Unsupported`.
pub(crate) fn send(_: &UdpSocket, _: Path, _: &[IoSlice<'_>], _: Option<usize>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
