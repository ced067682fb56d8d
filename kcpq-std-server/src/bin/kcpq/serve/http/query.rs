//! The part of an address behind `?`.

use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use serde_json::Value;

/// Names and values, decoded.
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

/// A page's length if it is not said, and the longest.
const LENGTH: usize = 256;
const MAX_LENGTH: usize = 1024;

impl Query {
    pub(super) fn new(text: &str) -> Self {
        Self { pairs: form_urlencoded::parse(text.as_bytes()).into_owned().collect() }
    }

    /// Refuses names that are none of these.
    ///
    /// # Errors
    /// For people: which one.
    pub(super) fn knows(&self, names: &[&str]) -> Result<(), String> {
        match self.pairs.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => Err(format!("unknown parameter '{name}'; known are {}", names.join(", "))),
            None => Ok(()),
        }
    }

    /// Those whose names begin with each of these, without that.
    ///
    /// # Errors
    /// For people: which name begins with none.
    pub(super) fn parts<const N: usize>(&self, prefixes: [&str; N]) -> Result<[Self; N], String> {
        let of = |prefix: &str| {
            let named = |(name, value): &(String, String)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone()));
            Self { pairs: self.pairs.iter().filter_map(named).collect() }
        };
        match self.pairs.iter().find(|(name, _)| !prefixes.iter().any(|prefix| name.starts_with(prefix))) {
            Some((name, _)) => {
                Err(format!("unknown parameter '{name}'; known are those that begin with {}", prefixes.join(", ")))
            }
            None => Ok(prefixes.map(of)),
        }
    }

    /// Whether one of these texts contains what `search` says, however it is written; true if nothing is searched for.
    pub(super) fn finds<'t>(&self, mut texts: impl Iterator<Item = &'t str>) -> bool {
        self.get("search").is_none_or(|wanted| {
            let wanted = wanted.to_lowercase();
            texts.any(|text| text.to_lowercase().contains(&wanted))
        })
    }

    /// Whether `order` turns the usual order of a list around.
    ///
    /// # Errors
    /// For people: what there is.
    pub(super) fn is_ascending(&self, usually: bool) -> Result<bool, String> {
        match self.get("order") {
            None => Ok(usually),
            Some("asc") => Ok(true),
            Some("desc") => Ok(false),
            Some(other) => Err(format!("order: '{other}' is not known; known are asc, desc")),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a name, if it was given.
    ///
    /// # Errors
    /// For people: what is wrong with it.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, String> {
        self.get(name).map(|text| text.parse().map_err(|error| format!("{name}: '{text}' is {error}"))).transpose()
    }

    /// The page that is wanted of `count` things: `offset` and `limit`.
    ///
    /// # Errors
    /// For people: what is wrong with them.
    pub(super) fn page(&self, count: usize) -> Result<Page, String> {
        let number = |name: &str, otherwise: usize| match self.get(name) {
            None => Ok(otherwise),
            Some(text) => text.parse().map_err(|_| format!("{name}: '{text}' is no number")),
        };
        let (offset, limit) = (number("offset", 0)?, number("limit", LENGTH)?.clamp(1, MAX_LENGTH));
        let begin = offset.min(count);
        Ok(Page { offset, limit, range: begin..begin.saturating_add(limit).min(count) })
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) offset: usize,
    pub(super) limit: usize,
    /// What of the list is on it.
    pub(super) range: Range<usize>,
}

/// A number; `null` if it is none.
pub(super) fn seconds(micros: u64) -> Value {
    Value::from(micros as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_within_the_list_whatever_is_asked_for() {
        for (text, range) in [
            ("", 0..10),
            ("offset=3&limit=4", 3..7),
            ("offset=9&limit=4", 9..10),
            ("offset=18446744073709551615&limit=18446744073709551615", 10..10),
            ("limit=0", 0..1),
        ] {
            assert_eq!(Query::new(text).page(10).unwrap().range, range, "{text}");
        }
        assert_eq!(Query::new("limit=99999").page(99_999).unwrap().range.len(), MAX_LENGTH);
        assert!(Query::new("offset=-1").page(1).is_err());
        assert!(Query::new("limit=x").page(1).is_err());
    }

    #[test]
    fn names_and_values_are_decoded_and_unknown_names_refused() {
        let query = Query::new("user=control%20room&name=a+b&x");
        assert_eq!((query.get("user"), query.get("name"), query.get("y")), (Some("control room"), Some("a b"), None));
        assert!(query.knows(&["user", "name"]).unwrap_err().contains("'x'"));
        assert!(query.knows(&["user", "name", "x"]).is_ok());
        assert!(Query::new("%ff=%zz&=&&").get("").is_some());
    }

    #[test]
    fn a_query_for_two_documents_is_taken_apart() {
        let [a, b] = Query::new("a.x=1&b.x=2&a.y=3").parts(["a.", "b."]).unwrap();
        assert_eq!((a.get("x"), a.get("y"), b.get("x"), b.get("y")), (Some("1"), Some("3"), Some("2"), None));
        assert!(Query::new("x=1").parts(["a."]).unwrap_err().contains("'x'"));
    }

    #[test]
    fn a_search_finds_parts_of_texts_whatever_their_case() {
        let query = Query::new("search=Kit");
        assert!(query.finds(["garden", "the kitchen"].into_iter()) && !query.finds(["garden"].into_iter()));
        assert!(Query::new("").finds([].into_iter()));
        assert!(Query::new("order=up").is_ascending(true).is_err());
    }
}
