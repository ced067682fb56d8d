//! What the flags make.

use std::path::Path;
use std::time::Duration;

use kcpq_std_server::{Backbone, NatsAddress, NatsAddressError, NatsCredentials, NatsCredentialsError, NatsTls};

use super::{Crossing, NatsServers, without_secrets};
use crate::Failure;

impl NatsServers {
    /// These as the backbone of somebody of this name, if there are any.
    ///
    /// # Errors
    /// For people: what cannot be used.
    pub(crate) fn backbone(
        &self,
        name: &str,
        crossing: Crossing,
        linger: Duration,
    ) -> Result<Option<Backbone>, Failure> {
        if !self.is_wanted() && crossing.leaf.is_empty() {
            return Ok(None);
        }
        if !self.is_wanted() && !crossing.last_values.is_empty() {
            return Err(Failure::Error(
                "last values are in a bucket of JetStream, which leaf nodes do not reach: give --nats besides --nats-leaf".into(),
            ));
        }
        let servers = addresses(&self.nats, str::parse)?;
        if let Some(leaf) = servers.iter().find(|address| address.is_leaf()) {
            return Err(Failure::Error(format!("{leaf} is where leaf nodes are let in: that is for --nats-leaf")));
        }
        let leaf = addresses(&crossing.leaf, NatsAddress::leaf)?;
        let read = |path: &Path, read: fn(&Path) -> Result<NatsCredentials, NatsCredentialsError>| {
            read(path).map_err(|error| Failure::Error(format!("credentials for NATS, {}: {error}", path.display())))
        };
        let credentials = match (&self.nats_creds, &self.nats_nkey) {
            // On the command line that could not be, but one of them may be from elsewhere.
            (Some(_), Some(_)) => {
                return Err(Failure::Error("credentials for NATS are in one file, creds or nkey: name one".into()));
            }
            (Some(path), None) => read(path, NatsCredentials::read)?,
            (None, Some(path)) => read(path, NatsCredentials::read_key)?,
            (None, None) => NatsCredentials::default(),
        };
        let wants_tls =
            self.nats_tls || self.nats_ca.is_some() || servers.iter().chain(&leaf).any(NatsAddress::is_secure);
        let own = match (&self.nats_cert, &self.nats_cert_key) {
            (Some(certificate), Some(key)) => Some((&**certificate, &**key)),
            (None, None) => None,
            _ => {
                return Err(Failure::Error(
                    "a certificate for NATS takes two files: give cert, and cert_key with its key".into(),
                ));
            }
        };
        let tls = match NatsTls::new(self.nats_ca.as_deref(), own) {
            Ok(tls) => Some(tls),
            Err(error) if wants_tls || own.is_some() => {
                return Err(Failure::Error(format!("TLS towards NATS: {error}")));
            }
            Err(_) => None, // perhaps no server asks for it
        };
        let list = |patterns: Vec<Box<str>>| patterns.into_iter().filter(|pattern| !pattern.is_empty()).collect();
        let backbone = Backbone {
            servers,
            leaf,
            credentials,
            tls,
            require_tls: self.nats_tls,
            name: name.to_owned(),
            export: list(crossing.export),
            import: list(crossing.import),
            prefix: crossing.prefix,
            store: list(crossing.store),
            last_values: crossing.last_values,
            buffer: self.nats_buffer,
            linger,
        };
        backbone.check().map_err(|error| Failure::Error(format!("subjects of the backbone: {error}")))?;
        Ok(Some(backbone))
    }
}

/// The addresses of these texts.
fn addresses(
    texts: &[String],
    read: fn(&str) -> Result<NatsAddress, NatsAddressError>,
) -> Result<Vec<NatsAddress>, Failure> {
    let all = texts.iter().map(|text| {
        read(text.trim()).map_err(|error| Failure::Error(format!("'{}' is {error}", without_secrets(text))))
    });
    all.collect()
}
