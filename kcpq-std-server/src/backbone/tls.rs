//! TLS towards the backbone, by rustls with the same library of ciphers as sealed sessions have.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Whom to trust, and what to show.
#[derive(Clone)]
pub struct NatsTls(Arc<ClientConfig>);

impl fmt::Debug for NatsTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsTls").finish_non_exhaustive()
    }
}

/// Why there is no TLS: for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsTlsError(String);

impl fmt::Display for NatsTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NatsTlsError {}

impl NatsTls {
    /// True if this build has TLS towards a backbone.
    pub const IS_THERE: bool = true;

    /// Trusts those whom the certificates in a file have signed, or whom the system trusts; and shows a certificate with its
    /// key, if there is one. All files are PEM.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn new(ca: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<Self, NatsTlsError> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| wrong(path, error))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err(NatsTlsError("the system trusts no certificate: name a file with some".into()));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| NatsTlsError(error.to_string()))?
            .with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
                config.with_client_auth_cert(chain, secret).map_err(|error| wrong(certificate, error))?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// Begins with a server of that name or address.
    pub(super) fn begin(&self, host: &str) -> Result<Session, NatsTlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| NatsTlsError(error.to_string()))?;
        ClientConnection::new(Arc::clone(&self.0), name).map(Session).map_err(|error| NatsTlsError(error.to_string()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NatsTlsError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| wrong(path, error))?;
    if all.is_empty() { Err(wrong(path, "no certificate in it")) } else { Ok(all) }
}

fn wrong(path: &Path, why: impl fmt::Display) -> NatsTlsError {
    NatsTlsError(format!("{}: {why}", path.display()))
}

/// One connection's TLS.
pub(super) struct Session(ClientConnection);

impl Session {
    /// Reads what has come, as far as there is some, up to some more than `limit` bytes. False at the end of the stream.
    pub(super) fn read(
        &mut self,
        mut stream: &mio::net::TcpStream,
        into: &mut Vec<u8>,
        limit: usize,
    ) -> io::Result<bool> {
        let begun = into.len();
        loop {
            match self.0.reader().read_to_end(into) {
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if into.len() - begun >= limit {
                return Ok(true);
            }
            if self.0.read_tls(&mut stream)? == 0 {
                return Ok(false);
            }
            self.0.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Writes what there is room for; says how much of it was taken.
    pub(super) fn write(&mut self, mut stream: &mio::net::TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            while self.0.wants_write() {
                match self.0.write_tls(&mut stream) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
            match self.0.writer().write(&bytes[taken..])? {
                0 => return Ok(taken),
                len => taken += len,
            }
        }
    }
}
