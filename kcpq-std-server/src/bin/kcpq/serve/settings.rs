//! What is in force for a server: its flags, and who may do what.

use std::ffi::OsString;
use std::path::Path;

use kcpq_std_server::access::{Access, Limits, Rules};

use super::Serve;
use super::file::{self, File};
use crate::settings::{self, InForce};

/// See above.
#[derive(Debug)]
pub(super) struct Settings {
    /// The flags, as if all of it had been said there.
    pub(super) serve: Serve,
    /// Who may do what.
    pub(super) access: Option<Access>,
    /// In the order of the file's keys.
    pub(super) values: Vec<InForce>,
}

impl Settings {
    /// Puts together what is said everywhere. `arguments` are those behind `serve`, which have been parsed before.
    ///
    /// # Errors
    /// A line for people: what is wrong with the file.
    pub(super) fn load(arguments: &[OsString], path: Option<&Path>) -> Result<Self, String> {
        let File { settings, access } = path.map_or_else(|| Ok(File::default()), file::read)?;
        let (serve, values) = file::flags().load(settings, arguments)?;
        Ok(Self { serve, access, values })
    }

    /// All of it, for people.
    pub(super) fn describe(&self) -> String {
        let access = self.access.as_ref().map_or_else(|| vec!["everybody may do everything".into()], describe);
        let lines = access.into_iter().map(|line| line + "\n");
        settings::describe(&self.values) + &lines.collect::<String>()
    }
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
    fn what_belongs_together_may_stand_in_a_file() {
        let loaded =
            load("pair", "[nats]\ncert = 'a.pem'\ncert_key = 'b.pem'\nservers = 'tls://u:p@h:1'\n", &[]).unwrap();
        let value = |flag| loaded.values.iter().find(|value| value.flag == flag).unwrap().value.clone().unwrap();
        assert_eq!((&*value("nats_cert"), &*value("nats_cert_key")), ("a.pem", "b.pem"));
        assert_eq!(value("nats"), "tls://***@h:1");
    }

    #[test]
    fn what_is_said_for_the_first_time_and_no_more_is_a_change_and_nothing_else_is() {
        let mut before = load("before", "name = 'a'\nhttp = 1\nlog_level = 'warn'\n", &[]).unwrap().values;
        let after = || load("after", "name = 'a'\nregister = 'none'\nlog_level = 'info'\n", &[]).unwrap().values;
        for round in 0..2 {
            assert_eq!(settings::change(&mut before, after()), 2, "http and register, round {round}");
        }
        let level = before.iter().find(|value| value.flag == "log_level").unwrap();
        assert_eq!(level.value.as_deref(), Some("info"));
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
