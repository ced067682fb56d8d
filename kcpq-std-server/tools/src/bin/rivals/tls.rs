//! Connections, in plain or by TLS.

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// What a broker's certificate has to be signed by.
#[derive(Clone, Debug)]
pub(crate) struct Tls(Arc<ClientConfig>);

/// A connection to a broker.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Tls {
    /// Trusts the certificates in a PEM file, and nobody else.
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(Error::other)? {
            roots.add(certificate.map_err(Error::other)?).map_err(Error::other)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(Error::other)?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

impl Stream {
    /// In plain.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }

    /// Goes on by TLS.
    pub(crate) fn secure(self, tls: &Tls) -> Result<Self> {
        let Self::Plain(stream) = self else { return Ok(self) };
        let name = ServerName::from(stream.peer_addr()?.ip());
        let connection = ClientConnection::new(Arc::clone(&tls.0), name).map_err(Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// Another handle of a plain one, for another thread.
    pub(crate) fn try_clone(&self) -> Result<Option<TcpStream>> {
        match self {
            Self::Plain(stream) => stream.try_clone().map(Some),
            Self::Tls(_) => Ok(None),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
