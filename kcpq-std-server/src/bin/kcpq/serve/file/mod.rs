//! The configuration file of `kcpq serve`: TOML.
//!
//! Most of its keys stand for a flag each, and their values are read as those of the flag are: what the file says is what
//! the flag is if nobody gives it. The rest is who may do what ([`rules`]).

mod rules;

use std::path::Path;

use clap::CommandFactory;
use kcpq_std_server::access::Access;

use super::Serve;
use crate::nats;
use crate::settings::{self, Flags, Key, Keys, Setting, key};
use crate::tables::Reader;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// In the order of [`KEYS`].
    pub(super) settings: Vec<Setting>,
    /// Who may do what, if it says anything of that.
    pub(super) access: Option<Access>,
}

/// All keys that stand for flags.
pub(super) const KEYS: Keys = &[OF_A_SERVER, nats::KEYS];

const OF_A_SERVER: &[Key] = &[
    key("", "listen", "listen"),
    key("", "open", "open"),
    key("", "http", "http"),
    key("", "http_open", "http_open"),
    key("", "http_subscribe", "http_subscribe"),
    key("", "http_ws", "http_ws"),
    key("", "http_ws_origin", "http_ws_origin"),
    key("", "http_ws_max", "http_ws_max"),
    key("", "shards", "shards"),
    key("", "spin", "spin"),
    key("", "name", "name"),
    key("", "drain", "drain"),
    key("", "successors", "successor"),
    key("", "key_file", "key_file"),
    key("", "secret_file", "secret_file"),
    key("", "register", "register"),
    key("", "log_level", "log_level"),
    key("", "log_format", "log_format"),
    key("limits", "max_sessions", "max_sessions"),
    key("limits", "max_sessions_per_host", "max_sessions_per_host"),
    key("limits", "max_subscriptions", "max_subscriptions"),
    key("limits", "max_message", "max_message"),
    key("limits", "max_tokens", "max_tokens"),
    key("limits", "max_queued", "max_queued"),
    key("limits", "max_queued_total", "max_queued_total"),
    key("limits", "max_received_total", "max_received_total"),
    key("limits", "idle_timeout", "idle_timeout"),
    key("limits", "half_open_timeout", "half_open_timeout"),
    key("limits", "stall_timeout", "stall_timeout"),
    key("limits", "stateless_replies", "stateless_replies"),
    key("limits", "linger", "linger"),
    key("limits", "max_will", "max_will"),
    key("limits", "max_wills_total", "max_wills_total"),
    key("handshakes", "before_retry", "handshakes_before_retry"),
    key("handshakes", "per_second", "handshakes_per_second"),
    key("handshakes", "unconfirmed", "handshakes_unconfirmed"),
    key("delivery", "slow_consumer", "slow_consumer"),
    key("delivery", "high_water", "high_water"),
    key("delivery", "throttle_for", "throttle_for"),
    key("delivery", "throttle_share", "throttle_share"),
    key("last_values", "subjects", "keep"),
    key("last_values", "max_subjects", "max_kept"),
    key("last_values", "max_bytes", "max_kept_total"),
    key("last_values", "max_value", "max_kept_size"),
    key("last_values", "file", "kept_file"),
    key("last_values", "original", "kept_for_original"),
    key("presence", "to", "presence"),
    key("presence", "addresses", "presence_addresses"),
    key("presence", "per_second", "presence_per_second"),
    key("transport", "preset", "preset"),
    key("transport", "max_datagram", "max_datagram"),
    key("transport", "congestion", "congestion"),
    key("transport", "redundancy", "redundancy"),
    key("original", "aes256_key_file", "aes256_key_file"),
    key("original", "parity", "compat_parity"),
    key("nats", "leaf", "nats_leaf"),
    key("nats", "export", "nats_export"),
    key("nats", "import", "nats_import"),
    key("nats", "prefix", "nats_prefix"),
    key("nats", "stored", "nats_stored"),
    key("nats", "last_values", "nats_last_values"),
];

/// Reads a file.
///
/// # Errors
/// A line for people, with the place.
pub(super) fn read(path: &Path) -> Result<File, String> {
    parse(&path.display().to_string(), &settings::text(path)?)
}

/// The flags of `kcpq serve`.
pub(super) fn flags() -> Flags {
    Flags::new(Serve::command().bin_name("kcpq serve"), KEYS)
}

/// Reads the text of a file called `name`.
///
/// # Errors
/// A line for people, with the place.
fn parse(name: &str, text: &str) -> Result<File, String> {
    let reader = Reader::new(name, text, elsewhere);
    let root = reader.parse()?;
    let root = reader.root(&root);
    let settings = flags().read(&root, |table| if table.is_empty() { rules::TABLES } else { rules::keys_of(table) })?;
    Ok(File { settings, access: rules::read(&root)? })
}

/// Where a key that is not known here would be: as the file writes it.
fn elsewhere(name: &str) -> Option<&'static str> {
    settings::table_of(KEYS, name).or_else(|| rules::table_of(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        parse("kcpq.toml", text).unwrap_err()
    }

    #[test]
    fn values_are_those_of_flags_whatever_their_type() {
        let file =
            parse("f", "listen = ':1'\nopen = true\n[limits]\nmax_sessions = 1_000\nmax_message = '1M'\n").unwrap();
        let settings: Vec<_> = file.settings.iter().map(|s| (s.flag, &*s.values[0], &*s.place)).collect();
        assert_eq!(
            settings,
            [
                ("listen", ":1", "f:1"),
                ("open", "true", "f:2"),
                ("max_sessions", "1000", "f:4"),
                ("max_message", "1M", "f:5")
            ]
        );
        assert!(file.access.is_none());
        let file = parse("f", "last_values.subjects = ['a.>', 'b']\n").unwrap();
        assert_eq!((file.settings[0].flag, &file.settings[0].values[..]), ("keep", &["a.>".into(), "b".into()][..]));
        assert!(parse("f", "").unwrap().settings.is_empty());
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line_and_a_better_word() {
        assert_eq!(
            wrong("[limits]\n\nmax_session = 1\n"),
            "kcpq.toml:3: unknown key 'max_session' in [limits]; did you mean 'max_sessions'?"
        );
        assert_eq!(wrong("\nlisten = 'a'\nlimit.x = 1"), "kcpq.toml:3: unknown key 'limit'; did you mean 'limits'?");
        assert_eq!(wrong("max_queued = 1"), "kcpq.toml:1: unknown key 'max_queued'; it belongs into [limits]");
        assert_eq!(
            wrong("colour = 1"),
            "kcpq.toml:1: unknown key 'colour'; known are 'listen', 'open', 'http', 'http_open', 'http_subscribe', 'http_ws', 'http_ws_origin', 'http_ws_max', 'shards', 'spin', 'name', 'drain', 'successors', 'key_file', 'secret_file', \
             'register', 'log_level', 'log_format', 'limits', 'handshakes', \
             'delivery', 'last_values', 'presence', 'transport', 'original', 'nats', 'permissions', 'anonymous', 'client', 'shared'"
        );
    }

    #[test]
    fn what_is_no_toml_or_of_another_type_is_refused_with_its_line() {
        assert!(wrong("a = 1\n[limits\n").starts_with("kcpq.toml:2: "), "{}", wrong("a = 1\n[limits\n"));
        assert_eq!(wrong("limits = 3"), "kcpq.toml:1: 'limits' has to be a table");
        assert_eq!(wrong("name = [1]"), "kcpq.toml:1: 'name' has to be a text, a number or true or false");
        assert_eq!(wrong("listen = []"), "kcpq.toml:1: 'listen' has to have one value at least");
        assert_eq!(wrong("listen = [[]]"), "kcpq.toml:1: 'listen' has to be a text, a number or true or false");
        assert!(wrong("a = 1\na = 2").starts_with("kcpq.toml:2: "));
    }

    #[test]
    fn whatever_a_file_holds_it_is_read_or_refused_with_a_place() {
        let example = include_str!("../../../../../kcpq.toml");
        let mut rng = fastrand::Rng::with_seed(0xc0f1);
        for _ in 0..3_000 {
            let mut bytes = example.as_bytes().to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..3) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = *rng.choice(b"\n='\"[]{}.#,x0 ").unwrap(),
                    _ => drop(bytes.splice(at..at, example.bytes().skip(rng.usize(..example.len())).take(20))),
                }
            }
            if let Err(error) = parse("f", &String::from_utf8_lossy(&bytes)) {
                let line = error.strip_prefix("f:").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
                assert!(line.is_some_and(|line| line >= 1) && !error.contains('\n'), "{error}");
            }
        }
    }
}
