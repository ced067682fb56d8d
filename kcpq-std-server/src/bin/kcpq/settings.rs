//! What is in force: the flags, then the environment, then a configuration file, then the defaults.
//!
//! Keys of a file stand for a flag each. What the file says becomes the default of that flag, so that everything is read, checked
//! and put in order by the same rules as on the command line.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::KEY_VARIABLE;
use crate::nats::without_secrets;
use crate::tables::Table;

/// A key that stands for a flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// The table that it is in; empty for none.
    pub(crate) table: &'static str,
    /// Its name there.
    pub(crate) name: &'static str,
    /// The flag's name in the program.
    pub(crate) flag: &'static str,
}

/// See [`Key`].
pub(crate) const fn key(table: &'static str, name: &'static str, flag: &'static str) -> Key {
    Key { table, name, flag }
}

/// All keys of a kind of file, some of them shared with another.
pub(crate) type Keys = &'static [&'static [Key]];

/// The table that a key is in, if it is one of these.
pub(crate) fn table_of(keys: Keys, name: &str) -> Option<&'static str> {
    keys.iter().copied().flatten().find(|key| key.name == name).map(|key| key.table)
}

/// A value that stands for a flag.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The flag's name in the program.
    pub(crate) flag: &'static str,
    /// The value, as it would be given to the flag; several of a list.
    pub(crate) values: Vec<String>,
    /// Where it stands, for messages: `FILE:LINE`.
    pub(crate) place: String,
}

/// A value, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    /// The flag's name in the program.
    pub(crate) flag: &'static str,
    /// The key as in a file, with its table.
    pub(crate) key: String,
    /// `None` if it is not said, and there is no default.
    pub(crate) value: Option<String>,
    /// Where it was said.
    pub(crate) source: String,
}

/// A command, and which keys of a file stand for its flags.
#[derive(Debug)]
pub(crate) struct Flags {
    command: Command,
    keys: Keys,
}

/// Bytes of a file that are read: some files have no end.
const LONGEST: u64 = 16 << 20;

/// The text of a file.
///
/// # Errors
/// A line for people.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LONGEST {
        return Err(format!("{} is longer than {LONGEST} bytes", path.display()));
    }
    Ok(text)
}

impl Flags {
    /// Those of a command that is alone on its line.
    pub(crate) fn new(command: Command, keys: Keys) -> Self {
        Self { command: command.no_binary_name(true), keys }
    }

    fn keys(&self) -> impl Iterator<Item = &'static Key> + Clone + use<> {
        self.keys.iter().copied().flatten()
    }

    /// What a file says of them. `others` are names that may stand in a table besides; those of tables in the one without a name.
    ///
    /// # Errors
    /// A line for people, with the place.
    pub(crate) fn read(
        &self,
        root: &Table<'_>,
        others: impl Fn(&str) -> &'static [&'static str],
    ) -> Result<Vec<Setting>, String> {
        let tables = self.keys().map(|key| key.table).chain(others("").iter().copied());
        root.knows(self.keys().filter(|key| key.table.is_empty()).map(|key| key.name).chain(tables))?;
        let mut settings = Vec::new();
        for key in self.keys() {
            let table = if key.table.is_empty() { Some(root.clone()) } else { root.table(key.table)? };
            let Some(table) = table else { continue };
            if !key.table.is_empty() {
                let own = self.keys().filter(|other| other.table == key.table).map(|key| key.name);
                table.knows(own.chain(others(key.table).iter().copied()))?;
            }
            let Some(value) = table.value(key.name) else { continue };
            let values = if self.takes_several(key.flag) { value.scalars()? } else { vec![value.scalar()?] };
            let setting = Setting { flag: key.flag, values, place: value.place() };
            let checked = self.arg(setting.flag).map_or(Ok(()), |arg| check(arg, &setting.values));
            checked.map_err(|why| format!("{}: {why}", setting.place))?;
            settings.push(setting);
        }
        Ok(settings)
    }

    /// Puts together what is said everywhere. `arguments` are those behind the command.
    ///
    /// # Errors
    /// A line for people.
    pub(crate) fn load<T: FromArgMatches + CommandFactory>(
        mut self,
        mut settings: Vec<Setting>,
        arguments: &[OsString],
    ) -> Result<(T, Vec<InForce>), String> {
        // The environment has a name of its own for what is in that file.
        let key_in_environment = std::env::var_os(KEY_VARIABLE).is_some_and(|value| !value.is_empty());
        settings.retain(|setting| !(setting.flag == "aes256_key_file" && key_in_environment));
        for Setting { flag, values, .. } in &settings {
            self.command = with_default(self.command, flag, values);
        }
        let matches = self.command.try_get_matches_from_mut(arguments).map_err(|error| in_a_line(&error))?;
        let usual = T::command();
        let in_force = self.keys().map(|key| {
            let name = if key.table.is_empty() { key.name.into() } else { format!("{}.{}", key.table, key.name) };
            let said = settings.iter().find(|setting| setting.flag == key.flag);
            let source = match (matches.value_source(key.flag), said) {
                (Some(ValueSource::CommandLine), _) => "command line".into(),
                (Some(ValueSource::EnvVariable), _) => "environment".into(),
                (_, Some(setting)) => setting.place.clone(),
                _ if default(&usual, key.flag) != default(&self.command, key.flag) => "context".into(),
                _ => "default".into(),
            };
            InForce { flag: key.flag, key: name, value: self.value(&matches, key.flag), source }
        });
        let in_force = in_force.collect();
        Ok((T::from_arg_matches(&matches).map_err(|error| in_a_line(&error))?, in_force))
    }

    fn arg(&self, flag: &str) -> Option<&Arg> {
        arg(&self.command, flag)
    }

    fn takes_several(&self, flag: &str) -> bool {
        self.arg(flag).is_some_and(|arg| matches!(arg.get_action(), ArgAction::Append))
    }

    fn value(&self, matches: &ArgMatches, flag: &str) -> Option<String> {
        if self.arg(flag).is_some_and(is_switch) {
            return Some(matches.get_flag(flag).to_string());
        }
        let raw = matches.get_raw(flag)?.map(|text| text.to_string_lossy());
        let shown = raw
            .map(|text| if matches!(flag, "nats" | "nats_leaf") { without_secrets(&text) } else { text.into_owned() });
        Some(shown.collect::<Vec<_>>().join(", "))
    }
}

fn arg<'c>(command: &'c Command, flag: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| arg.get_id() == flag)
}

fn default<'c>(command: &'c Command, flag: &str) -> &'c [clap::builder::OsStr] {
    arg(command, flag).map_or(&[], Arg::get_default_values)
}

/// The command whose flag has these values unless it is given, if it has the flag.
pub(crate) fn with_default(command: Command, flag: &str, values: &[String]) -> Command {
    if arg(&command, flag).is_some_and(|arg| !is_switch(arg) || values != ["false"]) {
        command.mut_arg(flag, |arg| arg.default_values(values.to_vec()))
    } else {
        command
    }
}

/// Says whether a flag takes these values, whatever else it needs.
pub(crate) fn check(arg: &Arg, values: &[String]) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default().to_owned();
    let arguments = match values {
        _ if !is_switch(arg) => values.iter().map(|value| format!("--{long}={value}")).collect(),
        [value] if value == "true" => vec![format!("--{long}")],
        [value] if value == "false" => return Ok(()),
        _ => return Err("it has to be true or false".into()),
    };
    let mut alone = Arg::new(arg.get_id().clone())
        .long(long)
        .action(arg.get_action().clone())
        .value_parser(arg.get_value_parser().clone())
        .value_names(arg.get_value_names().unwrap_or_default().iter().cloned());
    if let Some(delimiter) = arg.get_value_delimiter() {
        alone = alone.value_delimiter(delimiter);
    }
    let command = Command::new("kcpq").no_binary_name(true).arg(alone);
    command.try_get_matches_from(arguments).map(drop).map_err(|error| in_a_line(&error))
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// What clap says, without the advice about the command line.
fn in_a_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.split("\n\n").next().unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All of these that there are, a line each.
pub(crate) fn describe(values: &[InForce]) -> String {
    let lines = values.iter().filter_map(|InForce { key, value, source, .. }| {
        Some(format!("{:<40} # {source}\n", format!("{key} = {}", value.as_deref()?)))
    });
    lines.collect()
}

/// Puts what was read `now` in the place of what was read before, and tells the log what is different: the level of the log, which
/// changes at once, and what holds only from the next start on. That is told again until then; its number is returned. Both have all
/// keys, in the same order.
pub(crate) fn change(before: &mut [InForce], now: Vec<InForce>) -> usize {
    let mut later = 0;
    for (old, new) in before.iter_mut().zip(now) {
        if old.value == new.value {
            continue;
        }
        let [from, to] = [&old.value, &new.value].map(|value| value.as_deref().unwrap_or("nothing"));
        let key = &*new.key;
        if new.flag == "log_level" {
            tracing::info!(key, from, to, "changed");
            *old = new;
        } else {
            later += 1;
            tracing::warn!(key, from, to, "changed, but holds only from the next start on");
        }
    }
    later
}
