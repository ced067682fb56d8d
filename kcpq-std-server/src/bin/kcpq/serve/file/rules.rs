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
//! [[client]]
//! name = "thermometer"
//! token = "kcpq-tokenhash-..."        # in place of a key
//!
//! [anonymous]
//! allowed = "sealed"
//!
//! [shared]
//! group = "operators"
//!
//! [original]
//! allowed = "with-key"
//! ```

use kcpq_core::seal::{KeyTextError, PublicKey, TokenHash};
use kcpq_core::subject::{self, Pattern};
use kcpq_std_server::access::{Access, Client, Group, Limits, Permissions, Proof, Rules};

use crate::parse_size;
use crate::tables::{Table, Value};

/// The tables.
pub(super) const TABLES: &[&str] = &["permissions", "anonymous", "client", "original", "shared"];

const GROUP: &[&str] =
    &["publish", "subscribe", "max_sessions", "max_subscriptions", "max_bytes_per_second", "max_queued"];
const KIND: &[&str] = &["allowed", "group"];
const CLIENT: &[&str] = &["name", "key", "token", "group"];
const LISTS: &[&str] = &["allow", "deny"];

/// The group of those who are not named another.
const DEFAULT: &str = "default";

/// The keys that mean something here in a table that flags have as well.
pub(super) fn keys_of(table: &str) -> &'static [&'static str] {
    if table == "original" { KIND } else { &[] }
}

/// The table that a key would be in.
pub(super) fn table_of(key: &str) -> Option<&'static str> {
    [("permissions.NAME", GROUP), ("client", CLIENT), ("anonymous", KIND), ("shared", KIND)]
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
    let said = ["permissions", "anonymous", "client", "shared"].iter().any(|name| root.value(name).is_some());
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
    let anonymous = kind("anonymous", anonymous.as_ref(), &access, unnamed)?;
    (access.anonymous, access.local, access.sealed) = (anonymous.plain, anonymous.local, anonymous.with_key);
    let shared = root.table("shared")?;
    if let Some(table) = &shared {
        table.knows(KIND.iter().copied())?;
    }
    access.shared = kind("shared", shared.as_ref(), &access, true)?.plain;
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
    let (name, key, token) = (table.needs("name")?, table.value("key"), table.value("token"));
    let text = name.text()?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(name.wrong("has to be a name without control characters"));
    }
    if access.clients.iter().any(|other| &*other.name == text) {
        return Err(name.wrong(format!("'{text}' is another client's as well")));
    }
    let (said, proof) = match (key, token) {
        (Some(_), Some(token)) => return Err(token.wrong("is one thing too many: a client has a key or a token")),
        (None, Some(token)) => {
            let hash: TokenHash = token.text()?.parse().map_err(|error| unusable(&token, error))?;
            (token, Proof::Token(*hash.as_bytes()))
        }
        (key, None) => {
            let key = key.map_or_else(|| table.needs("key"), Ok)?;
            let public: PublicKey = key.text()?.parse().map_err(|error| unusable(&key, error))?;
            (key, Proof::Key(*public.as_bytes()))
        }
    };
    if let Some(other) = access.clients.iter().find(|other| other.proof == proof) {
        return Err(said.wrong(format!("is that of '{}' as well", other.name)));
    }
    Ok(Client { name: text.into(), proof, group: group_of(Some(table), access)? })
}

fn unusable(value: &Value<'_>, error: KeyTextError) -> String {
    value.wrong(format!("cannot be used: {error}"))
}

/// The groups of clients without a key of their own.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    plain: Option<usize>,
    /// The same on this machine, if that makes a difference.
    local: Option<usize>,
    with_key: Option<usize>,
}

/// What a table says of one kind of clients; `default` is whether they are let in if it says nothing.
fn kind(name: &str, table: Option<&Table<'_>>, access: &Access, default: bool) -> Result<Kind, String> {
    let group = Some(group_of(table, access)?);
    let all = Kind { plain: group, local: None, with_key: group };
    let value = |key| table.and_then(|table| table.value(key));
    let Some(allowed) = value("allowed") else {
        return Ok(if default || value("group").is_some() { all } else { Kind::default() });
    };
    match allowed.text() {
        Ok("with-key") if name == "original" => Ok(Kind { plain: None, ..all }),
        Ok("sealed") if name == "anonymous" => Ok(Kind { plain: None, ..all }),
        Ok("local") if name == "anonymous" => Ok(Kind { local: group, ..Kind::default() }),
        Ok("local-or-sealed") if name == "anonymous" => Ok(Kind { plain: None, local: group, ..all }),
        Ok(_) if name == "anonymous" => {
            Err(allowed.wrong("has to be true, false, \"sealed\", \"local\" or \"local-or-sealed\""))
        }
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

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const KEYS: [&str; 2] = [
        "kcpq-public-v33niqxehsi2kh6p47tbicbmnkwqp22f45k525ku5j2hldubc4foxykm",
        "kcpq-public-yt76ohuqwxfpf3kt5xg5tlfz62m2dvsmm2ixymn3qrtxtpp4zijob6nh",
    ];

    fn access(text: &str) -> Access {
        parse("f", text).unwrap().access.unwrap()
    }

    fn wrong(text: &str) -> String {
        parse("f", text).unwrap_err()
    }

    fn client(name: &str, key: &str, group: &str) -> String {
        format!("[[client]]\nname = '{name}'\nkey = '{key}'\ngroup = '{group}'\n")
    }

    #[test]
    fn groups_have_rules_and_limits() {
        let text = "[permissions.default]\npublish = ['a.>', 'b']\n[permissions.x]\nmax_queued = '1k'\n\
                    max_bytes_per_second = 500\nsubscribe = { deny = ['c'] }\npublish = { allow = [], deny = [] }";
        let access = access(text);
        let [default, x] = &access.groups[..] else { panic!("{access:?}") };
        assert_eq!(default.permissions.publish, Rules::of(Some(&["a.>", "b"]), &[]));
        assert_eq!(default.permissions.subscribe, Rules::default());
        assert_eq!(x.permissions.subscribe, Rules::of(None, &["c"]));
        assert_eq!(x.permissions.publish, Rules::of(Some(&[]), &[]));
        assert_eq!((x.limits.queued, x.limits.bytes_per_second, x.limits.sessions), (Some(1024), Some(500), None));
    }

    #[test]
    fn where_clients_have_keys_the_others_are_let_in_if_that_is_said() {
        let kinds = |access: Access| (access.anonymous, access.original, access.original_with_key);
        let (all, none) = ((Some(0), Some(0), Some(0)), (None, None, None));
        assert_eq!(kinds(access("[permissions.default]")), all);
        assert_eq!(kinds(access("[anonymous]\nallowed = true")), all);
        assert_eq!(kinds(access("[anonymous]\nallowed = false")), (None, Some(0), Some(0)));
        let local = |text: &str| {
            let Access { anonymous, local, sealed, .. } = access(text);
            (anonymous, local, sealed)
        };
        assert_eq!(local("[anonymous]\nallowed = 'local'"), (None, Some(0), None));
        assert_eq!(local("[anonymous]\nallowed = 'local-or-sealed'"), (None, Some(0), Some(0)));
        assert_eq!(local("[anonymous]\nallowed = 'sealed'"), (None, None, Some(0)));
        assert_eq!(kinds(access("[original]\nallowed = 'with-key'")), (Some(0), None, Some(0)));
        assert_eq!(kinds(access("[original]\nallowed = false")), (Some(0), None, None));
        let known = client("a", KEYS[0], "default");
        assert_eq!(kinds(access(&known)), none);
        assert_eq!(kinds(access(&format!("{known}[anonymous]\ngroup = 'default'"))), (Some(0), None, None));
        assert_eq!(access(&known).clients[0].proof, Proof::Key(*KEYS[0].parse::<PublicKey>().unwrap().as_bytes()));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        assert_eq!(
            wrong("[permissions.x]\nsubscribe = { alow = [] }"),
            "f:2: unknown key 'alow' in [permissions.x.subscribe]; did you mean 'allow'?"
        );
        assert_eq!(
            wrong("[permissions.x]\npublish = [\n 'a',\n 'b.>.c',\n]"),
            "f:4: 'permissions.x.publish' has 'b.>.c': invalid subject: '>' at byte 2 is not the last token"
        );
        assert_eq!(
            wrong("[permissions.x]\nmax_sessions = 0"),
            "f:2: 'permissions.x.max_sessions' has to be at least 1"
        );
        assert_eq!(wrong("[anonymous]\ngroup = 'y'"), "f:2: 'anonymous.group' 'y' has no table [permissions.y]");
        assert_eq!(
            wrong("[original]\nallowed = 'yes'"),
            "f:2: 'original.allowed' has to be true, false or \"with-key\""
        );
        assert_eq!(wrong("publish = []"), "f:1: unknown key 'publish'; it belongs into [permissions.NAME]");
        assert_eq!(wrong("[[client]]\nname = 'a'"), "f:1: 'key' is missing in [client]");
        let (a, b) = (client("a", KEYS[0], "default"), client("a", KEYS[1], "default"));
        assert_eq!(wrong(&format!("{a}{b}")), "f:6: 'client.name' 'a' is another client's as well");
        let same = client("b", KEYS[0], "default");
        assert_eq!(wrong(&format!("{a}{same}")), "f:7: 'client.key' is that of 'a' as well");
        assert!(wrong(&client("a", "kcpq-public-x", "default")).starts_with("f:3: 'client.key' cannot be used: "));
        assert_eq!(
            wrong(&format!("{a}token = 'x'")),
            "f:5: 'client.token' is one thing too many: a client has a key or a token"
        );
        let text = kcpq_core::seal::Token::from_bytes(&[1; 32]).to_text();
        assert_eq!(
            wrong(&format!("[[client]]\nname = 'a'\ntoken = '{text}'")),
            "f:3: 'client.token' cannot be used: this is a token, a token's hash is needed"
        );
    }

    #[test]
    fn clients_may_have_tokens() {
        let hash = kcpq_core::seal::Token::from_bytes(&[1; 32]).hash();
        let text = format!("[[client]]\nname = 'a'\ntoken = '{hash}'\n");
        assert_eq!(access(&text).clients[0].proof, Proof::Token(*hash.as_bytes()));
        assert_eq!(
            wrong(&format!("{text}{}", text.replace("'a'", "'b'"))),
            "f:6: 'client.token' is that of 'a' as well"
        );
    }
}
