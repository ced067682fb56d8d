//! The flags of NATS servers, for those who stand on some: which, how to get in, and what may wait for them.

#[cfg_attr(not(feature = "nats"), path = "absent.rs")]
mod backbone;

use std::path::PathBuf;

use clap::Args;

use crate::parse_size;
use crate::settings::{Key, key};

/// The keys of files that stand for them.
pub(super) const KEYS: &[Key] = &[
    key("nats", "servers", "nats"),
    key("nats", "creds", "nats_creds"),
    key("nats", "nkey", "nats_nkey"),
    key("nats", "tls", "nats_tls"),
    key("nats", "ca", "nats_ca"),
    key("nats", "cert", "nats_cert"),
    key("nats", "cert_key", "nats_cert_key"),
    key("nats", "buffer", "nats_buffer"),
];

/// See above.
#[derive(Clone, Debug, Args)]
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "flags are the same in all builds"))]
pub(super) struct NatsServers {
    /// NATS servers, nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before the host if need be: a server is one
    /// with all others on these. May be given several times, or several of one cluster, separated by commas
    #[arg(long, env = "KCPQ_NATS", value_name = "URL", value_delimiter = ',', hide_env_values = true)]
    nats: Vec<String>,
    /// File with the JWT and the key of a user of NATS, as nsc makes it
    #[arg(long, value_name = "FILE", conflicts_with = "nats_nkey")]
    nats_creds: Option<PathBuf>,
    /// File with the seed of the key of a user of NATS
    #[arg(long, value_name = "FILE")]
    nats_nkey: Option<PathBuf>,
    /// Use TLS with all NATS servers; without this only with those that ask for it, or are tls://
    #[arg(long)]
    nats_tls: bool,
    /// File with certificates, in PEM: trust NATS servers that these have signed, in place of those that the system trusts
    #[arg(long, value_name = "FILE")]
    nats_ca: Option<PathBuf>,
    /// File with a certificate to show to NATS servers, in PEM
    #[arg(long, value_name = "FILE", requires = "nats_cert_key")]
    nats_cert: Option<PathBuf>,
    /// File with the key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "nats_cert")]
    nats_cert_key: Option<PathBuf>,
    /// Maximum size of the messages that wait while NATS is away; the oldest make room. As much again may wait for JetStream
    #[arg(long, default_value = "8M", value_name = "SIZE", value_parser = parse_size)]
    nats_buffer: usize,
}

/// What crosses, and what it is called there.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "flags are the same in all builds"))]
pub(super) struct Crossing {
    /// Patterns of what goes out; empty ones are none.
    pub(super) export: Vec<Box<str>>,
    /// Patterns of what comes in, likewise.
    pub(super) import: Vec<Box<str>>,
    /// First tokens of all subjects there; empty for none.
    pub(super) prefix: Box<str>,
    /// Patterns of what JetStream is to store; empty ones are none.
    pub(super) store: Vec<Box<str>>,
    /// The bucket of last values; empty for none.
    pub(super) last_values: Box<str>,
    /// Addresses where leaf nodes are let in, if that is the way.
    pub(super) leaf: Vec<String>,
}

impl NatsServers {
    /// There are to be some.
    pub(super) fn is_wanted(&self) -> bool {
        !self.nats.is_empty()
    }
}

/// An address without what is secret in it.
pub(super) fn without_secrets(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, place)) if scheme.is_empty() => format!("***@{place}"),
        Some((_, place)) => format!("{scheme}://***@{place}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_addresses_are_not_shown() {
        assert_eq!(without_secrets("nats://u:p@h:1"), "nats://***@h:1");
        assert_eq!(without_secrets("token@h"), "***@h");
        assert_eq!(without_secrets("tls://h:1"), "tls://h:1");
    }
}
