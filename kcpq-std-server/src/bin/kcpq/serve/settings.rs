//! What is in force: the flags, then the environment, then the configuration file, then the defaults.
//!
//! What the file says becomes the default of the flag that it stands for, so that everything is read, checked and put in
//! order by the same rules as on the command line.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches};
use kcpq_std_server::access::{Access, Limits, Rules};

use super::Serve;
use super::file::{self, File, KEYS, Setting};
use crate::KEY_VARIABLE;
use crate::nats::without_secrets;

/// See above.
#[derive(Debug)]
pub(super) struct Settings {
    /// The flags, as if all of it had been said there.
    pub(super) serve: Serve,
    /// Who may do what.
    pub(super) access: Option<Access>,
    /// In the order of [`KEYS`].
    pub(super) values: Vec<InForce>,
}

/// A value, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    /// The flag's name in the program.
    pub(super) flag: &'static str,
    /// The key as in a file, with its table.
    pub(super) key: String,
    pub(super) value: String,
    /// Where it was said.
    source: String,
}

impl Settings {
    /// Puts together what is said everywhere. `arguments` are those behind `serve`, which have been parsed before.
    ///
    /// # Errors
    /// A line for people: what is wrong with the file.
    pub(super) fn load(arguments: &[OsString], path: Option<&Path>) -> Result<Self, String> {
        let File { mut settings, access } = path.map_or_else(|| Ok(File::default()), file::read)?;
        // The environment has a name of its own for what is in that file.
        let key_in_environment = std::env::var_os(KEY_VARIABLE).is_some_and(|value| !value.is_empty());
        settings.retain(|setting| !(setting.flag == "aes256_key_file" && key_in_environment));
        let mut command = command();
        for setting in &settings {
            check(setting)?;
            if !is_switch(setting.flag) || setting.values != ["false"] {
                command = command.mut_arg(setting.flag, |arg| arg.default_values(setting.values.clone()));
            }
        }
        let matches = command.try_get_matches_from(arguments).map_err(|error| in_a_line(&error))?;
        let serve = Serve::from_arg_matches(&matches).map_err(|error| in_a_line(&error))?;
        let values = KEYS.iter().filter_map(|key| {
            let name = if key.table.is_empty() { key.name.into() } else { format!("{}.{}", key.table, key.name) };
            let said = settings.iter().find(|setting| setting.flag == key.flag);
            let source = match matches.value_source(key.flag)? {
                ValueSource::CommandLine => "command line".into(),
                ValueSource::EnvVariable => "environment".into(),
                _ => said.map_or_else(|| "default".into(), |setting| setting.place.clone()),
            };
            Some(InForce { flag: key.flag, key: name, value: value(&matches, key.flag)?, source })
        });
        let values = values.collect();
        Ok(Self { serve, access, values })
    }

    /// All of it, for people.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        for InForce { key, value, source, .. } in &self.values {
            let _ = writeln!(text, "{:<40} # {source}", format!("{key} = {value}"));
        }
        match &self.access {
            None => text.push_str("everybody may do everything\n"),
            Some(access) => describe(access).into_iter().for_each(|line| {
                let _ = writeln!(text, "{line}");
            }),
        }
        text
    }
}

/// The flags of `kcpq serve`, without anything in front of them.
fn command() -> clap::Command {
    Serve::command().no_binary_name(true).bin_name("kcpq serve")
}

fn is_switch(flag: &str) -> bool {
    command().get_arguments().any(|arg| arg.get_id() == flag && matches!(arg.get_action(), ArgAction::SetTrue))
}

/// Says whether the flag takes the value.
fn check(setting: &Setting) -> Result<(), String> {
    let Setting { flag, values, place } = setting;
    let command = command();
    let long = command.get_arguments().find(|arg| arg.get_id() == *flag).and_then(Arg::get_long).unwrap_or_default();
    let arguments = match values.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ref values if !is_switch(flag) => values.iter().map(|value| format!("--{long}={value}")).collect(),
        ["true"] => vec![format!("--{long}")],
        ["false"] => return Ok(()),
        _ => return Err(format!("{place}: it has to be true or false")),
    };
    command.try_get_matches_from(arguments).map(drop).map_err(|error| format!("{place}: {}", in_a_line(&error)))
}

/// What clap says, without the advice about the command line.
pub(crate) fn in_a_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.split("\n\n").next().unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn value(matches: &ArgMatches, flag: &str) -> Option<String> {
    if is_switch(flag) {
        return Some(matches.get_flag(flag).to_string());
    }
    let raw = matches.get_raw(flag)?.map(|text| text.to_string_lossy());
    let shown =
        raw.map(|text| if matches!(flag, "nats" | "nats_leaf") { without_secrets(&text) } else { text.into_owned() });
    Some(shown.collect::<Vec<_>>().join(", "))
}

/// Who may do what, a line for each group and each kind of client.
pub(super) fn describe(access: &Access) -> Vec<String> {
    let mut lines = Vec::new();
    for group in &access.groups {
        let permissions = &group.permissions;
        let (publish, subscribe) = (words(&permissions.publish), words(&permissions.subscribe));
        lines.push(format!("group {}: publish {publish}, subscribe {subscribe}{}", group.name, limits(&group.limits)));
    }
    let group = |index: Option<usize>| match index.and_then(|index| access.groups.get(index)) {
        Some(group) => format!("as {}", group.name),
        None => "not let in".into(),
    };
    lines.push(format!("anonymous clients: {}", group(access.anonymous)));
    if access.local.is_some() {
        lines.push(format!("anonymous clients on this machine: {}", group(access.local)));
    }
    lines.push(format!("anonymous clients, sealed: {}", group(access.sealed)));
    lines.push(format!("clients with the shared secret: {}", group(access.shared)));
    lines.push(format!("original clients: {}", group(access.original)));
    lines.push(format!("original clients with the key: {}", group(access.original_with_key)));
    for client in &access.clients {
        lines.push(format!("client '{}': {}", client.name, group(Some(client.group))));
    }
    lines
}

fn words(Rules { allow, deny }: &Rules) -> String {
    let allow = match allow.as_deref() {
        None => "everything".into(),
        Some([]) => "nothing".into(),
        Some(patterns) => patterns.join(" "),
    };
    if deny.is_empty() { allow } else { format!("{allow} but not {}", deny.join(" ")) }
}

fn limits(limits: &Limits) -> String {
    let Limits { sessions, subscriptions, bytes_per_second, queued } = *limits;
    let all = [
        (sessions.map(|most| most as u64), "sessions"),
        (subscriptions.map(|most| most as u64), "subscriptions"),
        (bytes_per_second, "bytes/s"),
        (queued.map(|most| most as u64), "bytes queued"),
    ];
    let said: Vec<_> = all.iter().filter_map(|(most, what)| most.map(|most| format!("{most} {what}"))).collect();
    if said.is_empty() { String::new() } else { format!(", at most {}", said.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in force with this file and these flags.
    fn load(name: &str, file: &str, flags: &[&str]) -> Result<Settings, String> {
        let folder = std::env::temp_dir().join(format!("kcpq-settings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, file).unwrap();
        let arguments: Vec<OsString> = flags.iter().map(OsString::from).collect();
        let loaded = Settings::load(&arguments, Some(&path));
        std::fs::remove_file(&path).unwrap();
        let _ = std::fs::remove_dir(&folder);
        let folder = format!("{}/", folder.display());
        loaded.map_err(|error| error.replace(&folder, ""))
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = "open = true\n[limits]\nmax_sessions = 7\nmax_queued = '1M'\n[original]\nparity = true\n";
        let settings = load("order", file, &["--max-sessions", "9"]).unwrap();
        let serve = &settings.serve;
        assert_eq!((serve.max_sessions, serve.max_queued, serve.max_tokens), (9, 1 << 20, 32));
        assert!(serve.open && serve.compat_parity);
        let source = |flag| settings.values.iter().find(|value| value.flag == flag).unwrap().source.clone();
        assert_eq!((&*source("max_sessions"), &*source("max_tokens")), ("command line", "default"));
        assert!(source("max_queued").ends_with("order:4"), "{}", source("max_queued"));
        assert!(!load("off", "open = false", &[]).unwrap().serve.open);
    }

    #[test]
    fn values_are_refused_as_those_of_flags_with_their_place() {
        let wrong = |file| load("wrong", file, &[]).unwrap_err();
        assert_eq!(
            wrong("[limits]\nmax_queued = '8 apples'"),
            "wrong:2: invalid value '8 apples' for '--max-queued <SIZE>': unknown unit 'apples': use k, M or G"
        );
        assert_eq!(
            wrong("[delivery]\nslow_consumer = 'wait'"),
            "wrong:2: invalid value 'wait' for '--slow-consumer <POLICY>' [possible values: drop-newest, drop-oldest, \
             disconnect]"
        );
        assert_eq!(wrong("open = 1"), "wrong:1: it has to be true or false");
    }

    #[test]
    fn every_key_stands_for_a_flag_that_exists() {
        for key in KEYS {
            assert!(command().get_arguments().any(|arg| arg.get_id() == key.flag), "{}", key.flag);
        }
    }

    #[test]
    fn the_example_is_what_it_says() {
        let example = include_str!("../../../../kcpq.toml");
        let settings = load("example", example, &[]).unwrap();
        let defaults = load("defaults", "", &[]).unwrap();
        let values =
            |settings: &Settings| settings.values.iter().map(|v| (v.flag, v.value.clone())).collect::<Vec<_>>();
        let (example, defaults) = (values(&settings), values(&defaults));
        // It shows the defaults, all of them but what has none.
        assert_eq!(example, defaults);
        let access = settings.access.unwrap();
        assert_eq!((access.groups.len(), access.clients.len()), (2, 1));
    }
}
