//! What the flags make.

use std::path::Path;
use std::time::Duration;

use kcpq_std_server::{Backbone, NatsAddress, NatsCredentials, NatsCredentialsError, NatsTls};

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
        if !self.is_wanted() {
            return Ok(None);
        }
        let servers = self.nats.iter().map(|text| {
            let address = text.trim().parse::<NatsAddress>();
            address.map_err(|error| Failure::Error(format!("'{}' is {error}", without_secrets(text))))
        });
        let read = |path: &Path, read: fn(&Path) -> Result<NatsCredentials, NatsCredentialsError>| {
            read(path).map_err(|error| Failure::Error(format!("credentials for NATS, {}: {error}", path.display())))
        };
        let credentials = match (&self.nats_creds, &self.nats_nkey) {
            (Some(path), _) => read(path, NatsCredentials::read)?,
            (None, Some(path)) => read(path, NatsCredentials::read_key)?,
            (None, None) => NatsCredentials::default(),
        };
        let servers = servers.collect::<Result<Vec<NatsAddress>, _>>()?;
        let wants_tls = self.nats_tls || self.nats_ca.is_some() || servers.iter().any(NatsAddress::is_secure);
        let own = self.nats_cert.as_deref().zip(self.nats_cert_key.as_deref());
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
