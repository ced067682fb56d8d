//! Where there is no TLS towards the backbone: nobody makes one.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::Path;

/// There is none in this build.
#[derive(Clone, Debug)]
pub struct NatsTls(Infallible);

/// Says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatsTlsError;

impl fmt::Display for NatsTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build has no TLS towards NATS, which is there on x86-64 Linux")
    }
}

impl std::error::Error for NatsTlsError {}

impl NatsTls {
    /// True if this build has TLS towards a backbone.
    pub const IS_THERE: bool = false;

    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: Option<&Path>, _: Option<(&Path, &Path)>) -> Result<Self, NatsTlsError> {
        Err(NatsTlsError)
    }

    pub(super) fn begin(&self, _: &str) -> Result<Session, NatsTlsError> {
        match self.0 {}
    }
}

/// There is none.
pub(super) struct Session(Infallible);

impl Session {
    pub(super) fn read(&mut self, _: &mio::net::TcpStream, _: &mut Vec<u8>, _: usize) -> io::Result<bool> {
        match self.0 {}
    }

    pub(super) fn write(&mut self, _: &mio::net::TcpStream, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }
}
