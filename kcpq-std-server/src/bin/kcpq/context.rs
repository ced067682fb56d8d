//! `kcpq context`: how to reach a server, under a name, for the other commands.
//!
//! A context is a file of flags' values, in the configuration folder of the user. What it says becomes the default of the
//! flags that it stands for, so that flags and the environment win over it, and everything is read and checked by the same
//! rules.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, Parser, Subcommand};
use etcetera::BaseStrategy;

use super::settings;
use super::tables::Reader;
use super::web::Site;
use super::{Failure, ServerArg};

/// The flags of `kcpq context`.
#[derive(Debug, Parser)]
pub(super) struct Context {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Keep these flags under a name
    Add(Box<Add>),
    /// Use a context wherever no server is named
    Select {
        /// A name that `kcpq context add` was given
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Use none any more
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// List contexts; the selected one is marked
    Ls,
    /// Print what a context says
    Show {
        /// Its name [default: the selected one]
        name: Option<String>,
    },
    /// Forget a context
    Rm {
        /// Its name
        name: String,
    },
}

/// The flags of `kcpq context add`: of those that are given the context is made.
#[derive(Debug, Parser)]
struct Add {
    /// What it is called: letters, digits, `-`, `_` and `.`
    #[arg(value_parser = parse_name)]
    name: String,
    #[command(flatten)]
    server: ServerArg,
    /// Where the server answers over HTTP, for `kcpq top` and `kcpq check`
    #[arg(long, value_name = "ADDR")]
    http: Option<Site>,
}

/// The flag that names a context, of all commands that use one.
pub(super) const FLAG: &str = "context";
/// The flag of a file that says it all, of commands that have one.
pub(super) const FILE: &str = "configuration";
/// A key, the flags' names in the program that it stands for, and whether it is the name of a file.
const KEYS: &[(&str, &[&str], bool)] = &[
    ("server", &["server"], false),
    ("connection_name", &["connection_name"], false),
    ("shuffle", &["shuffle"], false),
    ("timeout", &["timeout"], false),
    ("preset", &["preset"], false),
    ("parity", &["parity"], false),
    ("server_key", &["server_key"], false),
    ("key_file", &["identity"], true),
    ("token_file", &["token_file"], true),
    ("secret_file", &["secret_file"], true),
    ("aes256_key_file", &["aes256_key_file"], true),
    ("http", &["http", "site"], false),
];

/// Where contexts are kept.
#[derive(Debug)]
struct Store(PathBuf);

impl Context {
    /// Does what is asked for. `matches` is the whole command line.
    pub(super) fn run(&self, matches: &ArgMatches) -> Result<(), Failure> {
        let store = Store::find()?;
        let mut out = io::stdout().lock();
        match &self.action {
            Action::Add(add) => {
                let given = matches.subcommand().and_then(|(_, below)| below.subcommand());
                let given = given.ok_or_else(|| Failure::Error("no context is given".into()))?.1;
                store.add(&add.name, &text_of(given)?)?;
            }
            Action::Select { name: Some(name), .. } => {
                store.read(name)?;
                store.select(Some(name))?;
            }
            Action::Select { .. } => store.select(None)?,
            Action::Ls => {
                let selected = store.selected()?;
                for name in store.names()? {
                    let mark = if selected.as_deref() == Some(&*name) { '*' } else { ' ' };
                    writeln!(out, "{mark} {name}")?;
                }
            }
            Action::Show { name } => {
                let name = name.clone().map_or_else(|| store.selected(), |name| Ok(Some(name)))?;
                let name = name.ok_or_else(|| Failure::Error("no context is selected: name one".into()))?;
                out.write_all(store.read(&name)?.as_bytes())?;
            }
            Action::Rm { name } => {
                store.read(name)?;
                if store.selected()?.as_deref() == Some(name) {
                    store.select(None)?;
                }
                let path = store.file(name);
                fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
            }
        }
        Ok(())
    }
}

/// Puts what the context of a command line says into the description of all commands. `matches` is what the line says by
/// itself.
///
/// # Errors
/// For people: there is no such context, or something is wrong with it.
pub(super) fn apply(command: Command, matches: &ArgMatches) -> Result<Command, Failure> {
    if matches.subcommand_name() == Some(FLAG) {
        return Ok(command);
    }
    let mut last = matches;
    while let Some((_, below)) = last.subcommand() {
        last = below;
    }
    // Commands that ask no server have none.
    let Ok(named) = last.try_get_one::<String>(FLAG) else { return Ok(command) };
    let name = match named {
        Some(name) => name.clone(),
        None if names_a_server(last) => return Ok(command),
        // Whoever has selected none need not have a home.
        None => match Store::find().and_then(|store| store.selected()) {
            Ok(Some(name)) => name,
            Ok(None) => return Ok(command),
            Err(_) if Store::find().is_err() => return Ok(command),
            Err(failure) => return Err(failure),
        },
    };
    let store = Store::find()?;
    let settings = parse(&store.file(&name).display().to_string(), &store.read(&name)?)?;
    Ok(with_defaults(command, &settings))
}

/// True if the line, the environment or a file says which server is meant: then it is not the selected context's.
fn names_a_server(matches: &ArgMatches) -> bool {
    ["server", "site", "http", FILE].iter().any(|flag| {
        let known = matches.ids().any(|id| id == flag);
        known && !matches!(matches.value_source(flag), None | Some(ValueSource::DefaultValue))
    })
}

/// A key of a context and its values.
type Setting = (&'static [&'static str], Vec<String>);

/// The same command whose flags, and those of all commands below it, have these defaults.
fn with_defaults(mut command: Command, settings: &[Setting]) -> Command {
    for (flags, values) in settings {
        for flag in *flags {
            command = settings::with_default(command, flag, values);
        }
    }
    // What others listen to is not what clients ask.
    command.mut_subcommands(|below| if below.get_name() == "serve" { below } else { with_defaults(below, settings) })
}

/// What a context says, each value as the flag takes it.
fn parse(name: &str, text: &str) -> Result<Vec<Setting>, Failure> {
    let (reader, add) = (Reader::new(name, text, |_| None), Add::command());
    let read = || {
        let root = reader.parse()?;
        let table = reader.root(&root);
        table.knows(KEYS.iter().map(|(key, ..)| *key))?;
        let mut said = Vec::new();
        for (key, flags, _) in KEYS {
            let Some(value) = table.value(key) else { continue };
            let values = value.scalars()?;
            let known = |arg: &&Arg| flags.iter().any(|flag| arg.get_id() == flag);
            let checked = add.get_arguments().find(known).map_or(Ok(()), |arg| settings::check(arg, &values));
            checked.map_err(|why| format!("{}: {why}", value.place()))?;
            said.push((*flags, values));
        }
        Ok::<_, String>(said)
    };
    read().map_err(Failure::Error)
}

/// The text of a context, of the flags that are given.
fn text_of(given: &ArgMatches) -> Result<String, Failure> {
    let mut table = toml::Table::new();
    for (key, flags, is_file) in KEYS {
        let said = |flag: &&&str| given.ids().any(|id| id == **flag);
        let Some(flag) = flags.iter().find(said) else { continue };
        if given.value_source(flag) != Some(ValueSource::CommandLine) {
            continue;
        }
        let mut values = Vec::new();
        for value in given.get_raw(flag).into_iter().flatten() {
            let path = is_file.then(|| std::path::absolute(value)).transpose()?;
            let value = path.as_deref().map_or(value, Path::as_os_str);
            let text = value.to_str().ok_or_else(|| Failure::Error(format!("{} is no text", value.display())))?;
            values.push(toml::Value::from(text));
        }
        let value = match (flag, values.len()) {
            (&"shuffle" | &"parity", _) => toml::Value::from(true),
            (_, 1) => values.remove(0),
            _ => toml::Value::from(values),
        };
        table.insert((*key).into(), value);
    }
    if table.is_empty() {
        return Err(Failure::Error("a context needs something to say: give --server, for example".into()));
    }
    Ok(table.to_string())
}

/// What a context may be called.
fn parse_name(text: &str) -> Result<String, String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && text.len() <= 64 && text.chars().all(is_word) && !text.starts_with('.') {
        true => Ok(text.into()),
        false => Err("it has to be a word of at most 64 letters, digits, '-', '_' or '.'".into()),
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Error(format!("cannot {what} {}: {error}", path.display()))
}

impl Store {
    /// # Errors
    /// If the user has no home.
    fn find() -> Result<Self, Failure> {
        let base = etcetera::choose_base_strategy()
            .map_err(|error| Failure::Error(format!("there is no folder for contexts: {error}")))?;
        Ok(Self(base.config_dir().join("kcpq")))
    }

    fn folder(&self) -> PathBuf {
        self.0.join("contexts")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.toml"))
    }

    /// The file with the name of the selected one.
    fn selection(&self) -> PathBuf {
        self.0.join("context")
    }

    fn add(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.file(name);
        fs::create_dir_all(self.folder()).map_err(|error| cannot("make", &self.folder(), &error))?;
        let mut file = fs::File::create_new(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::Error(format!("context '{name}' exists; `kcpq context rm {name}` forgets it"))
            }
            _ => cannot("write", &path, &error),
        })?;
        file.write_all(text.as_bytes()).map_err(|error| cannot("write", &path, &error))
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        parse_name(name).map_err(|why| Failure::Error(format!("'{name}' is no context: {why}")))?;
        let path = self.file(name);
        fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Failure::Error(format!("there is no context '{name}'; `kcpq context ls` shows those that there are"))
            }
            _ => cannot("read", &path, &error),
        })
    }

    fn names(&self) -> Result<Vec<String>, Failure> {
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| cannot("read", &folder, &error))?,
        };
        let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned());
        let mut names: Vec<String> = entries.filter_map(|entry| name(entry.ok()?)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn selected(&self) -> Result<Option<String>, Failure> {
        let path = self.selection();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|name| !name.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot("read", &path, &error)),
        }
    }

    fn select(&self, name: Option<&str>) -> Result<(), Failure> {
        let path = self.selection();
        let done = match name {
            Some(name) => fs::write(&path, format!("{name}\n")),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            },
        };
        done.map_err(|error| cannot("write", &path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;

    fn wrong(text: &str) -> String {
        match parse("c", text) {
            Err(Failure::Error(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_key_stands_for_flags_that_exist() {
        for (key, flags, _) in KEYS {
            let add = Add::command();
            assert!(add.get_arguments().any(|arg| arg.get_id() == flags[0]), "{key}");
        }
    }

    #[test]
    fn what_a_context_says_is_checked_as_the_flags_are_with_its_place() {
        let settings = parse("c", "server = ['a:1', 'b:2']\nparity = true\ntimeout = '3s'").unwrap();
        let settings: Vec<_> = settings.iter().map(|(flags, values)| (flags[0], values.join(" "))).collect();
        assert_eq!(settings, [("server", "a:1 b:2".into()), ("timeout", "3s".into()), ("parity", "true".to_owned())]);
        assert_eq!(wrong("\nservr = 'a'"), "c:2: unknown key 'servr'; did you mean 'server'?");
        assert!(wrong("preset = 'fast'").starts_with("c:1: invalid value 'fast' for '--preset <PRESET>'"));
        assert_eq!(wrong("parity = 1"), "c:1: it has to be true or false");
        assert!(wrong("server").starts_with("c:1: "));
    }

    #[test]
    fn defaults_are_those_of_all_commands_that_ask_a_server() {
        let command = with_defaults(Cli::command(), &parse("c", "server = 'a:1'\nhttp = '9'\nparity = true").unwrap());
        command.clone().debug_assert();
        let of = |line: &[&str]| command.clone().try_get_matches_from(line).unwrap();
        let matches = of(&["kcpq", "bench", "pubsub"]);
        let bench = matches.subcommand().unwrap().1.subcommand().unwrap().1;
        assert!(bench.get_flag("parity") && bench.get_raw("server").unwrap().eq(["a:1"]));
        assert!(of(&["kcpq", "top"]).subcommand().unwrap().1.get_raw("site").unwrap().eq(["9"]));
        let serve = of(&["kcpq", "serve"]);
        assert!(serve.subcommand().unwrap().1.get_raw("http").is_none());
        let said = of(&["kcpq", "pub", "-s", "b:2", "x"]);
        assert!(said.subcommand().unwrap().1.get_raw("server").unwrap().eq(["b:2"]));
    }

    #[test]
    fn every_flag_that_may_be_given_is_kept() {
        use clap::CommandFactory as _;

        let add = Add::command();
        let kept = |id: &str| KEYS.iter().any(|(_, flags, _)| flags.contains(&id));
        let lost = add.get_arguments().map(|arg| arg.get_id().as_str()).filter(|id| !kept(id));
        assert_eq!(lost.collect::<Vec<_>>(), ["name", FLAG]);
    }

    #[test]
    fn names_are_words() {
        for (name, is) in
            [("a", true), ("prod-1.eu_2", true), ("", false), (".a", false), ("a/b", false), ("a b", false)]
        {
            assert_eq!(parse_name(name).is_ok(), is, "{name}");
        }
        assert!(parse_name(&"a".repeat(65)).is_err());
    }
}
