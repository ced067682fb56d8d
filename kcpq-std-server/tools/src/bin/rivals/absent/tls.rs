//! Connections where there is no TLS: its cipher needs a C compiler for whatever the target is.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::path::Path;

/// There is none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tls {}

/// A connection to a broker.
pub(crate) struct Stream(TcpStream);

impl Tls {
    pub(crate) fn load(_: &Path) -> Result<Self> {
        Err(Error::new(ErrorKind::Unsupported, "--tls-ca is there on x86-64 Linux alone"))
    }
}

impl Stream {
    /// In plain.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self(stream)
    }

    pub(crate) fn secure(self, tls: &Tls) -> Result<Self> {
        match *tls {}
    }

    /// Another handle, for another thread.
    pub(crate) fn try_clone(&self) -> Result<Option<TcpStream>> {
        self.0.try_clone().map(Some)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}
