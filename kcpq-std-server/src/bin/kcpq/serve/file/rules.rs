//! Who may do what, as a file says it.
//!
//! ```toml
//! [permissions.default]                # of all who are not named another group
//! publish = ["telemetry.>"]            # what is allowed; a table { allow, deny } says both
//! subscribe = { allow = [">"], deny = ["secret.>"] }
//!
//! [permissions.operators]              # everything
//!
//! [[client]]
//! name = "control room"
//! key = "kcpq-public-..."
//! group = "operators"
//!
//! [anonymous]
//! allowed = true
//!
//! [original]
//! allowed = "with-key"
//! ```

use kcpq_core::seal::PublicKey;
use kcpq_core::subject::{self, Pattern};
use kcpq_std_server::access::{Access, Client, Group, Limits, Permissions, Rules};

use super::reader::{Table, Value};
use crate::parse_size;

/// The tables.
pub(super) const TABLES: &[&str] = &["permissions", "anonymous", "client", "original"];

const GROUP: &[&str] =
    &["publish", "subscribe", "max_sessions", "max_subscriptions", "max_bytes_per_second", "max_queued"];
const KIND: &[&str] = &["allowed", "group"];
const CLIENT: &[&str] = &["name", "key", "group"];
const LISTS: &[&str] = &["allow", "deny"];

/// The group of those who are not named another.
const DEFAULT: &str = "default";

/// The keys that mean something here in a table that flags have as well.
pub(super) fn keys_of(table: &str) -> &'static [&'static str] {
    if table == "original" { KIND } else { &[] }
}

/// The table that a key would be in.
pub(super) fn table_of(key: &str) -> Option<&'static str> {
    [("permissions.NAME", GROUP), ("client", CLIENT), ("anonymous", KIND)]
        .iter()
        .find(|(_, keys)| keys.contains(&key))
        .map(|(table, _)| *table)
}

/// Who may do what; `None` if nothing is said of that.
///
/// # Errors
/// A line for people, with the place.
pub(super) fn read(root: &Table<'_>) -> Result<Option<Access>, String> {
    let original = root.table("original")?;
    let says_original = original.as_ref().is_some_and(|table| KIND.iter().any(|key| table.value(key).is_some()));
    let said = ["permissions", "anonymous", "client"].iter().any(|name| root.value(name).is_some());
    if !said && !says_original {
        return Ok(None);
    }
    let mut access = Access::default();
    if let Some(groups) = root.table("permissions")? {
        for (name, value) in groups.values() {
            access.groups.push(group(name, &value.table()?)?);
        }
    }
    if access.groups.iter().all(|group| &*group.name != DEFAULT) {
        access.groups.push(Group { name: DEFAULT.into(), ..Group::default() });
    }
    if let Some(clients) = root.value("client") {
        for value in clients.list()? {
            let client = client(&value.table()?, &access)?;
            access.clients.push(client);
        }
    }
    // Where clients have keys, the others are not meant unless it is said.
    let unnamed = access.clients.is_empty();
    let anonymous = root.table("anonymous")?;
    if let Some(table) = &anonymous {
        table.knows(KIND.iter().copied())?;
    }
    access.anonymous = kind("anonymous", anonymous.as_ref(), &access, unnamed)?.plain;
    let original = kind("original", original.as_ref(), &access, unnamed)?;
    (access.original, access.original_with_key) = (original.plain, original.with_key);
    Ok(Some(access))
}

fn group(name: &str, table: &Table<'_>) -> Result<Group, String> {
    table.knows(GROUP.iter().copied())?;
    let count = |name| number(table, name, |text| text.parse().map_err(|_| "has to be a whole number".into()));
    let size = |name| number(table, name, parse_size);
    Ok(Group {
        name: name.into(),
        permissions: Permissions { publish: rules(table, "publish")?, subscribe: rules(table, "subscribe")? },
        limits: Limits {
            sessions: count("max_sessions")?,
            subscriptions: count("max_subscriptions")?,
            bytes_per_second: size("max_bytes_per_second")?.map(|size| size as u64),
            queued: size("max_queued")?,
        },
    })
}

fn number(
    table: &Table<'_>,
    name: &str,
    parse: impl Fn(&str) -> Result<usize, String>,
) -> Result<Option<usize>, String> {
    let Some(value) = table.value(name) else { return Ok(None) };
    match parse(&value.scalar()?) {
        Ok(0) => Err(value.wrong("has to be at least 1")),
        Ok(number) => Ok(Some(number)),
        Err(why) => Err(value.wrong(format!("cannot be used: {why}"))),
    }
}

/// A list is what is allowed; a table says what is, what is not, or both.
fn rules(table: &Table<'_>, name: &str) -> Result<Rules, String> {
    let Some(value) = table.value(name) else { return Ok(Rules::default()) };
    if !value.is_table() {
        return Ok(Rules { allow: Some(patterns(&value)?), deny: Vec::new() });
    }
    let table = value.table()?;
    table.knows(LISTS.iter().copied())?;
    let list = |name| table.value(name).as_ref().map(patterns).transpose();
    Ok(Rules { allow: list("allow")?, deny: list("deny")?.unwrap_or_default() })
}

fn patterns(value: &Value<'_>) -> Result<Vec<Box<str>>, String> {
    const LIMITS: subject::Limits = subject::Limits { max_len: u16::MAX, max_tokens: u8::MAX };
    let pattern = |value: &Value<'_>| {
        let text = value.text()?;
        Pattern::new(text, &LIMITS).map_err(|error| value.wrong(format!("has '{text}': {error}")))?;
        Ok(text.into())
    };
    value.list()?.iter().map(pattern).collect()
}

fn client(table: &Table<'_>, access: &Access) -> Result<Client, String> {
    table.knows(CLIENT.iter().copied())?;
    let (name, key) = (table.needs("name")?, table.needs("key")?);
    let text = name.text()?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(name.wrong("has to be a name without control characters"));
    }
    if access.clients.iter().any(|other| &*other.name == text) {
        return Err(name.wrong(format!("'{text}' is another client's as well")));
    }
    let public: PublicKey = key.text()?.parse().map_err(|error| key.wrong(format!("cannot be used: {error}")))?;
    if let Some(other) = access.clients.iter().find(|other| other.key == *public.as_bytes()) {
        return Err(key.wrong(format!("is that of '{}' as well", other.name)));
    }
    Ok(Client { name: text.into(), key: *public.as_bytes(), group: group_of(Some(table), access)? })
}

/// The groups of clients without a key of their own.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    plain: Option<usize>,
    with_key: Option<usize>,
}

/// What a table says of one kind of clients; `default` is whether they are let in if it says nothing.
fn kind(name: &str, table: Option<&Table<'_>>, access: &Access, default: bool) -> Result<Kind, String> {
    let group = Some(group_of(table, access)?);
    let all = Kind { plain: group, with_key: group };
    let value = |key| table.and_then(|table| table.value(key));
    let Some(allowed) = value("allowed") else {
        return Ok(if default || value("group").is_some() { all } else { Kind::default() });
    };
    match allowed.text() {
        Ok("with-key") if name == "original" => Ok(Kind { plain: None, ..all }),
        Ok(_) if name == "original" => Err(allowed.wrong("has to be true, false or \"with-key\"")),
        _ if allowed.flag()? => Ok(all),
        _ => Ok(Kind::default()),
    }
}

/// The group that a table names.
fn group_of(table: Option<&Table<'_>>, access: &Access) -> Result<usize, String> {
    let named = table.and_then(|table| table.value("group"));
    let name = named.as_ref().map_or(Ok(DEFAULT), Value::text)?;
    let found = access.groups.iter().position(|group| &*group.name == name);
    found.ok_or_else(|| {
        let named = named.map(|value| value.wrong(format!("'{name}' has no table [permissions.{name}]")));
        named.unwrap_or_default()
    })
}
