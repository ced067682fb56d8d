//! The flags of a backbone: NATS servers over which several servers are one.

use std::time::Duration;

use clap::Args;
use kcpq_std_server::Backbone;

use super::parse_pattern;
use crate::Failure;
use crate::nats::{Crossing, NatsServers};

/// See above.
#[derive(Clone, Debug, Args)]
pub(super) struct Nats {
    #[command(flatten)]
    servers: NatsServers,
    /// Where NATS servers let leaf nodes in, nats-leaf://HOST:PORT, several of one cluster separated by commas, otherwise as --nats:
    /// messages go this way, and only those that anybody there wants. Besides this --nats is for what needs JetStream's API alone:
    /// what it has stored, and last values
    #[arg(long, env = "KCPQ_NATS_LEAF", value_name = "URL", value_delimiter = ',', hide_env_values = true)]
    nats_leaf: Vec<String>,
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
    /// Bucket of JetStream, a key/value one, that has the last values of subjects: so they survive, and all servers share them. It
    /// has to be there
    #[arg(long, value_name = "BUCKET", value_parser = parse_bucket)]
    nats_last_values: Option<Box<str>>,
}

impl Nats {
    /// Somebody wants a backbone.
    pub(super) fn is_wanted(&self) -> bool {
        self.servers.is_wanted() || !self.nats_leaf.is_empty()
    }

    /// The backbone of a server of this name, if there is to be one.
    ///
    /// # Errors
    /// For people: what cannot be used.
    pub(super) fn backbone(&self, name: &str, linger: Duration) -> Result<Option<Backbone>, Failure> {
        let crossing = Crossing {
            export: self.nats_export.clone(),
            import: self.nats_import.clone(),
            prefix: self.nats_prefix.clone().unwrap_or_default(),
            store: self.nats_stored.clone(),
            last_values: self.nats_last_values.clone().unwrap_or_default(),
            leaf: self.nats_leaf.clone(),
        };
        self.servers.backbone(name, crossing, linger)
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

fn parse_bucket(text: &str) -> Result<Box<str>, String> {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match !text.is_empty() && text.bytes().all(is_one) {
        true => Ok(text.into()),
        false => Err("the name of a bucket has letters, digits, - and _, and nothing else".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_as_jetstream_takes_it() {
        assert_eq!(parse_bucket("last_Values-7").as_deref(), Ok("last_Values-7"));
        for wrong in ["", "a.b", "a b", "*", "ä", "$KV"] {
            assert!(parse_bucket(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_a_subject() {
        assert!(parse_prefix("edge.1").is_ok());
        for wrong in ["", "a.*", ">", "a..b", "a b"] {
            assert!(parse_prefix(wrong).is_err(), "{wrong}");
        }
    }
}
