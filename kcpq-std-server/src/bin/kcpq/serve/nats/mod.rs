//! The flags of a backbone: NATS servers over which several servers are one.

#[cfg_attr(not(feature = "nats"), path = "absent.rs")]
mod backbone;

use std::path::PathBuf;

use clap::Args;

use super::parse_pattern;
use crate::parse_size;

/// See above.
#[derive(Clone, Debug, Args)]
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "flags are the same in all builds"))]
pub(super) struct Nats {
    /// Be one server with all others on these NATS servers, nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@
    /// before the host if need be. May be given several times, or several of one cluster, separated by commas
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
    /// Patterns of subjects that are handed to NATS, separated by spaces; empty for none. What begins with $ has to be named
    #[arg(long, default_value = ">", value_name = "PATTERNS", value_delimiter = ' ', value_parser = parse_list)]
    nats_export: Vec<Box<str>>,
    /// Patterns of subjects that are taken from NATS, likewise
    #[arg(long, default_value = ">", value_name = "PATTERNS", value_delimiter = ' ', value_parser = parse_list)]
    nats_import: Vec<Box<str>>,
    /// First tokens of all subjects at NATS: with "edge" what is a.b here is edge.a.b there
    #[arg(long, value_name = "SUBJECT", value_parser = parse_prefix)]
    nats_prefix: Option<Box<str>>,
    /// Patterns of subjects that JetStream is to store, separated by spaces: what anybody publishes to them is kept here until it
    /// has. A stream there has to have the subjects
    #[arg(long, default_value = "", value_name = "PATTERNS", value_delimiter = ' ', value_parser = parse_list)]
    nats_stored: Vec<Box<str>>,
    /// Maximum size of the messages that wait while NATS is away; the oldest make room. As much again may wait for JetStream
    #[arg(long, default_value = "8M", value_name = "SIZE", value_parser = parse_size)]
    nats_buffer: usize,
}

impl Nats {
    /// Somebody wants a backbone.
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

/// A pattern, or nothing.
fn parse_list(text: &str) -> Result<Box<str>, String> {
    if text.is_empty() { Ok("".into()) } else { parse_pattern(text) }
}

fn parse_prefix(text: &str) -> Result<Box<str>, String> {
    match parse_pattern(text) {
        Ok(_) if text.split('.').any(|token| token == "*" || token == ">") => Err("it has a wildcard".into()),
        parsed => parsed,
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

    #[test]
    fn a_prefix_is_a_subject() {
        assert!(parse_prefix("edge.1").is_ok());
        for wrong in ["", "a.*", ">", "a..b", "a b"] {
            assert!(parse_prefix(wrong).is_err(), "{wrong}");
        }
    }
}
