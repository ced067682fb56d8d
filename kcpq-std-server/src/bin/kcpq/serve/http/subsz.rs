//! `/subsz`: the patterns that sessions have.

use std::cmp::Reverse;
use std::collections::HashMap;

use kcpq_core::subject::{Limits, Pattern, Subject};
use serde_json::{Value, json};

use super::query::Query;

/// A page of patterns: those that most have first.
///
/// # Errors
/// For people: what is wrong with the query.
pub(super) fn document(patterns: &HashMap<Box<str>, usize>, query: &Query) -> Result<Value, String> {
    query.knows(&["offset", "limit", "sort", "order", "search", "test"])?;
    const LIMITS: Limits = Limits { max_tokens: u8::MAX, ..Limits::DEFAULT };
    let test = query.get("test").map(|text| Subject::new(text, &LIMITS).map_err(|error| format!("test: {error}")));
    let test = test.transpose()?;
    let matches = |text: &str| match test {
        None => true,
        Some(subject) => Pattern::new(text, &LIMITS).is_ok_and(|pattern| pattern.matches(subject)),
    };
    let mut list: Vec<(&str, usize)> = patterns.iter().map(|(text, count)| (&**text, *count)).collect();
    list.retain(|(text, _)| matches(text) && query.finds(std::iter::once(*text)));
    match query.get("sort").unwrap_or("subscribers") {
        "subscribers" if query.is_ascending(false)? => list.sort_unstable_by_key(|(text, count)| (*count, *text)),
        "subscribers" => list.sort_unstable_by_key(|(text, count)| (Reverse(*count), *text)),
        "subject" if query.is_ascending(true)? => list.sort_unstable(),
        "subject" => list.sort_unstable_by(|a, b| b.cmp(a)),
        other => return Err(format!("sort: '{other}' is not known; known are subscribers, subject")),
    }
    let page = query.page(list.len())?;
    let shown: Vec<Value> = list
        .get(page.range.clone())
        .unwrap_or_default()
        .iter()
        .map(|(text, count)| json!({ "subject": text, "subscribers": count }))
        .collect();
    Ok(json!({
        "num_patterns": patterns.len(),
        "num_subscriptions": patterns.values().sum::<usize>(),
        "total": list.len(),
        "offset": page.offset,
        "limit": page.limit,
        "subscriptions_list": shown,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_come_by_their_subscribers_or_names_in_pages_or_by_what_they_match() {
        let patterns = [("a", 2), ("b.*", 7), ("c", 2), (">", 1)].map(|(text, count)| (text.into(), count)).into();
        let shown = |query: &str| {
            let document = document(&patterns, &Query::new(query)).unwrap();
            assert_eq!((&document["num_patterns"], &document["num_subscriptions"]), (&json!(4), &json!(12)));
            let list = document["subscriptions_list"].as_array().unwrap();
            list.iter().map(|entry| entry["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(shown(""), ["b.*", "a", "c", ">"]);
        assert_eq!(shown("sort=subject&offset=1&limit=2"), ["a", "b.*"]);
        assert_eq!(shown("sort=subject&order=desc&limit=1"), ["c"]);
        assert_eq!(shown("order=asc"), [">", "a", "c", "b.*"]);
        assert_eq!(shown("test=b.x"), ["b.*", ">"]);
        assert_eq!(shown("search=B"), ["b.*"]);
        assert_eq!(shown("offset=9"), Vec::<String>::new());
        for wrong in ["sort=x", "order=x", "test=a..b", "offset=y", "colour=1"] {
            assert!(document(&patterns, &Query::new(wrong)).is_err(), "{wrong}");
        }
    }
}
