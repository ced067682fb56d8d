//! TOML whose every complaint names the place: tables with the keys that are known in them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text of a file, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    elsewhere: Elsewhere,
}

/// Names the table in which a key would be that is not known where it stands; empty if it is in none.
pub(crate) type Elsewhere = fn(&str) -> Option<&'static str>;

/// A table, and what it is called in the file.
#[derive(Clone, Debug)]
pub(crate) struct Table<'t> {
    reader: Reader<'t>,
    path: String,
    table: &'t DeTable<'t>,
    span: Range<usize>,
}

/// A value, and what it is called in the file.
#[derive(Clone, Debug)]
pub(crate) struct Value<'t> {
    reader: Reader<'t>,
    name: String,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(name: &'t str, text: &'t str, elsewhere: Elsewhere) -> Self {
        Self { name, text, elsewhere }
    }

    /// The file's tables.
    pub(crate) fn parse(self) -> Result<Spanned<DeTable<'t>>, String> {
        DeTable::parse(self.text).map_err(|error| {
            let words = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            self.wrong(&error.span().unwrap_or_default(), words)
        })
    }

    pub(crate) fn root(self, table: &'t Spanned<DeTable<'t>>) -> Table<'t> {
        Table { reader: self, path: String::new(), table: table.get_ref(), span: table.span() }
    }

    fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        format!("{}:{}", self.name, before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }

    fn wrong(&self, span: &Range<usize>, what: impl AsRef<str>) -> String {
        format!("{}: {}", self.place(span), what.as_ref())
    }
}

impl<'t> Table<'t> {
    /// Refuses keys that are none of these.
    pub(crate) fn knows<'k>(&self, known: impl Iterator<Item = &'k str> + Clone) -> Result<(), String> {
        for key in self.table.keys() {
            let name = key.get_ref();
            if known.clone().any(|known| known == name) {
                continue;
            }
            let here = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
            let nearest = known.clone().min_by_key(|known| strsim::damerau_levenshtein(known, name));
            let nearest = nearest.filter(|known| strsim::damerau_levenshtein(known, name) <= name.len().div_ceil(3));
            let advice = match (nearest, (self.reader.elsewhere)(name)) {
                (Some(nearest), _) => format!("did you mean '{nearest}'?"),
                (None, Some("")) => "it belongs to the top, before the tables".into(),
                (None, Some(table)) => format!("it belongs into [{table}]"),
                (None, None) => {
                    let mut all: Vec<String> = Vec::new();
                    for known in known.filter(|known| !known.is_empty()).map(|known| format!("'{known}'")) {
                        if !all.contains(&known) {
                            all.push(known);
                        }
                    }
                    format!("known are {}", all.join(", "))
                }
            };
            return Err(self.reader.wrong(&key.span(), format!("unknown key '{name}'{here}; {advice}")));
        }
        Ok(())
    }

    /// The names of all keys, and what they stand for.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'t str, Value<'t>)> {
        self.table.iter().map(|(key, value)| {
            let name = key.get_ref().as_ref();
            (name, Value { reader: self.reader, name: self.name_of(name), value })
        })
    }

    pub(crate) fn value(&self, name: &str) -> Option<Value<'t>> {
        self.values().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The table of this name, if there is one.
    pub(crate) fn table(&self, name: &str) -> Result<Option<Self>, String> {
        self.value(name).map(|value| value.table()).transpose()
    }

    /// A value that has to be there.
    pub(crate) fn needs(&self, name: &str) -> Result<Value<'t>, String> {
        let missing = || self.reader.wrong(&self.span, format!("'{name}' is missing in [{}]", self.path));
        self.value(name).ok_or_else(missing)
    }

    fn name_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }
}

impl<'t> Value<'t> {
    pub(crate) fn table(&self) -> Result<Table<'t>, String> {
        match self.value.get_ref() {
            DeValue::Table(table) => {
                Ok(Table { reader: self.reader, path: self.name.clone(), table, span: self.value.span() })
            }
            _ => Err(self.wrong("has to be a table")),
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// What it is as a text, unless it holds others.
    pub(crate) fn scalar(&self) -> Result<String, String> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().into()),
            DeValue::Boolean(flag) => Ok(flag.to_string()),
            _ => Err(self.wrong("has to be a text, a number or true or false")),
        }
    }

    /// The same of each member of a list, or of it alone.
    pub(crate) fn scalars(&self) -> Result<Vec<String>, String> {
        match self.value.get_ref() {
            DeValue::Array(members) if members.is_empty() => Err(self.wrong("has to have one value at least")),
            DeValue::Array(_) => self.list()?.iter().map(Self::scalar).collect(),
            _ => Ok(vec![self.scalar()?]),
        }
    }

    /// Where it stands, for messages.
    pub(crate) fn place(&self) -> String {
        self.reader.place(&self.value.span())
    }

    pub(crate) fn text(&self) -> Result<&'t str, String> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong("has to be a text"))
    }

    pub(crate) fn flag(&self) -> Result<bool, String> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong("has to be true or false"))
    }

    /// Its members, each as if it stood alone.
    pub(crate) fn list(&self) -> Result<Vec<Self>, String> {
        let members = self.value.get_ref().as_array().ok_or_else(|| self.wrong("has to be a list"))?;
        Ok(members.iter().map(|value| Self { reader: self.reader, name: self.name.clone(), value }).collect())
    }

    /// A complaint about it.
    pub(crate) fn wrong(&self, what: impl AsRef<str>) -> String {
        self.reader.wrong(&self.value.span(), format!("'{}' {}", self.name, what.as_ref()))
    }
}
