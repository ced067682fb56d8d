//! The configuration file of `kcpq bridge`: TOML, each key of which stands for a flag.
//!
//! ```toml
//! to_nats = ["telemetry.>"]
//! map = ["telemetry.>=site.7.telemetry.>"]
//!
//! [kcpq]
//! servers = ["127.0.0.1:4000"]
//!
//! [nats]
//! servers = ["nats://127.0.0.1:4222"]
//! ```

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Command;

use super::Bridge;
use crate::nats;
use crate::serve::logging::SetLevel;
use crate::settings::{self, Flags, InForce, Key, Keys, key};
use crate::tables::Reader;

/// All keys.
const KEYS: Keys = &[OF_A_BRIDGE, nats::KEYS];

const OF_A_BRIDGE: &[Key] = &[
    key("", "to_nats", "to_nats"),
    key("", "to_kcpq", "to_kcpq"),
    key("", "map", "map"),
    key("", "link", "link"),
    key("", "linger", "linger"),
    key("", "http", "monitoring"),
    key("", "http_open", "http_open"),
    key("", "log_level", "log_level"),
    key("", "log_format", "log_format"),
    key("kcpq", "servers", "server"),
    key("kcpq", "shuffle", "shuffle"),
    key("kcpq", "name", "connection_name"),
    key("kcpq", "timeout", "timeout"),
    key("kcpq", "preset", "preset"),
    key("kcpq", "parity", "parity"),
    key("kcpq", "server_key", "server_key"),
    key("kcpq", "key_file", "identity"),
    key("kcpq", "token_file", "token_file"),
    key("kcpq", "secret_file", "secret_file"),
    key("kcpq", "aes256_key_file", "aes256_key_file"),
    key("kcpq", "buffer", "kcpq_buffer"),
];

/// How to read what is said again.
pub(super) struct Reread<'d> {
    /// The flags of the whole program.
    pub(super) described: &'d Command,
    /// Those that were given.
    pub(super) arguments: Vec<OsString>,
    pub(super) path: Option<PathBuf>,
}

impl Reread<'_> {
    /// Puts together what is said everywhere.
    ///
    /// # Errors
    /// A line for people: what is wrong with the file.
    pub(super) fn load(&self) -> Result<(Bridge, Vec<InForce>), String> {
        let command = self.described.find_subcommand("bridge").cloned().unwrap_or_default();
        let flags = Flags::new(command.bin_name("kcpq bridge"), KEYS);
        let mut said = Vec::new();
        if let Some(path) = &self.path {
            let text = settings::text(path)?;
            let name = path.display().to_string();
            let reader = Reader::new(&name, &text, |name| settings::table_of(KEYS, name));
            let root = reader.parse()?;
            said = flags.read(&reader.root(&root), |_| &[])?;
        }
        flags.load(said, &self.arguments)
    }

    /// Reads the file again. What is wrong with it changes nothing.
    pub(super) fn again(&self, values: &mut [InForce], set_level: &SetLevel) {
        let Some(path) = &self.path else {
            tracing::info!("SIGHUP: no configuration file to read again (--config)");
            return;
        };
        let file = path.display();
        match self.load() {
            Ok((bridge, fresh)) => {
                let later = settings::change(values, fresh);
                set_level(bridge.log_level);
                tracing::info!(%file, later, "SIGHUP: configuration read again");
            }
            Err(error) => tracing::error!(%file, "SIGHUP: {error}; everything stays as it was"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::Cli;

    /// What is in force with this file and these flags.
    fn load(name: &str, text: &str, flags: &[&str]) -> Result<(Bridge, Vec<InForce>), String> {
        let path = std::env::temp_dir().join(format!("kcpq-bridge-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let arguments = ["--config".into(), path.clone().into()].into_iter().chain(flags.iter().map(OsString::from));
        let reread = Reread { described: &Cli::command(), arguments: arguments.collect(), path: Some(path.clone()) };
        let loaded = reread.load();
        std::fs::remove_file(&path).unwrap();
        loaded.map_err(|error| error.replace(&path.display().to_string(), "f"))
    }

    #[test]
    fn every_flag_has_a_key_and_the_example_shows_all_of_them() {
        let described = Cli::command();
        let flags = described.find_subcommand("bridge").unwrap().get_arguments().map(|arg| arg.get_id().as_str());
        let without = flags.filter(|flag| KEYS.iter().copied().flatten().all(|key| key.flag != *flag));
        assert_eq!(without.collect::<Vec<_>>(), [crate::context::FILE, "check", crate::context::FLAG]);
        // What has no default is behind a #.
        let example = include_str!("../../../../bridge.toml");
        let (bridge, values) = load("example", &example.replace("\n# link", "\nlink"), &[]).unwrap();
        assert_eq!(
            (&*bridge.to_nats[0], &*bridge.to_kcpq[0], bridge.map.len()),
            ("telemetry.>", "site.7.commands.>", 2)
        );
        let (_, defaults) = load("defaults", "", &[]).unwrap();
        let shown = values.iter().zip(&defaults).filter(|(value, usual)| value.value != usual.value);
        assert_eq!(
            shown.map(|(value, _)| value.flag).collect::<Vec<_>>(),
            ["to_nats", "to_kcpq", "map", "link", "nats"],
            "all others have their default there"
        );
        for key in KEYS.iter().copied().flatten() {
            assert!(
                example.contains(&format!("\n{} = ", key.name)) || example.contains(&format!("\n# {} = ", key.name)),
                "{key:?}"
            );
        }
    }

    #[test]
    fn flags_win_over_the_file_whose_mistakes_have_a_place() {
        let text =
            "to_nats = 'a.>'\n[kcpq]\nbuffer = '1M'\ntimeout = '3s'\n[nats]\nservers = ['nats://a', 'nats://b']\n";
        let (bridge, values) = load("order", text, &["--kcpq-buffer", "2M"]).unwrap();
        assert_eq!((bridge.kcpq_buffer, bridge.server.timeout.as_secs()), (2 << 20, 3));
        let of = |flag| values.iter().find(|value| value.flag == flag).unwrap();
        assert_eq!(of("nats").value.as_deref(), Some("nats://a, nats://b"));
        assert!(of("nats").source.ends_with("order:6"), "{:?}", of("nats"));
        assert_eq!(of("kcpq_buffer").source, "command line");
        let wrong = |text| load("wrong", text, &[]).unwrap_err();
        assert_eq!(wrong("[kcpq]\nserver = 'a'"), "f:2: unknown key 'server' in [kcpq]; did you mean 'servers'?");
        assert_eq!(wrong("shuffle = true"), "f:1: unknown key 'shuffle'; it belongs into [kcpq]");
        assert!(wrong("map = ['a.*=b']").starts_with("f:1: invalid value 'a.*=b' for '--map <KCPQ=NATS>'"));
        assert!(wrong("link = 'a b'").starts_with("f:1: invalid value 'a b' for '--link <NAME>'"));
        assert_eq!(wrong("http_open = 1"), "f:1: it has to be true or false");
    }
}
