//! `/subsz`: the patterns that sessions have.

use kcpq_core::subject::{Limits, Pattern, Subject};
use serde_json::{Value, json};

use super::patterns::{Counted, Patterns};
use super::query::Query;

/// A page of patterns: those that most have first.
///
/// # Errors
/// For people: what is wrong with the query.
pub(super) fn document(patterns: &Patterns, query: &Query) -> Result<Value, String> {
    query.knows(&["offset", "limit", "sort", "order", "search", "test"])?;
    const LIMITS: Limits = Limits { max_tokens: u8::MAX, ..Limits::DEFAULT };
    let test = query.get("test").map(|text| Subject::new(text, &LIMITS).map_err(|error| format!("test: {error}")));
    let test = test.transpose()?;
    let matches = |text: &str| match test {
        None => true,
        Some(subject) => Pattern::new(text, &LIMITS).is_ok_and(|pattern| pattern.matches(subject)),
    };
    let mut list: Vec<(&str, &Counted)> = patterns.iter().collect();
    list.retain(|(text, _)| matches(text) && query.finds(std::iter::once(*text)));
    let by = query.get("sort").unwrap_or("subscribers");
    let key: fn(&Counted) -> f64 = match by {
        "subscribers" => |counted| counted.subscribers as f64,
        "rate" => |counted| counted.rate.unwrap_or(-1.0),
        "subject" => |_| 0.0,
        other => return Err(format!("sort: '{other}' is not known; known are subscribers, rate, subject")),
    };
    let ascending = query.is_ascending(by == "subject")?;
    list.sort_unstable_by(|(a, x), (b, y)| {
        let order = key(x).total_cmp(&key(y));
        match (ascending, by) {
            (false, "subject") => b.cmp(a),
            (false, _) => order.reverse().then(a.cmp(b)),
            (true, _) => order.then(a.cmp(b)),
        }
    });
    let page = query.page(list.len())?;
    let shown = list.get(page.range.clone()).unwrap_or_default().iter().map(
        |(text, counted)| json!({ "subject": text, "subscribers": counted.subscribers, "msgs_rate": counted.rate }),
    );
    Ok(json!({
        "num_patterns": patterns.len(),
        "num_subscriptions": patterns.iter().map(|(_, counted)| counted.subscribers).sum::<usize>(),
        "total": list.len(),
        "offset": page.offset,
        "limit": page.limit,
        "subscriptions_list": shown.collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn patterns_come_by_subscribers_rates_or_names_in_pages_or_by_what_they_match() {
        let begin = Instant::now();
        let look = |seconds, messages: [u32; 4], before: Option<&Patterns>| {
            let found = [("a", 2), ("b.*", 7), ("c", 2), (">", 1)].into_iter().zip(messages);
            let found = found.map(|((text, count), messages)| (text.into(), count, messages));
            Patterns::new(begin + Duration::from_secs(seconds), found, before)
        };
        let patterns = look(2, [6, 4, 8, 90], Some(&look(0, [0, 4, 0, 0], None)));
        assert_eq!(
            document(&patterns, &Query::new("limit=1")).unwrap()["subscriptions_list"],
            json!([{ "subject": "b.*", "subscribers": 7, "msgs_rate": 0.0 }])
        );
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
        assert_eq!(shown("sort=rate"), [">", "c", "a", "b.*"]);
        assert_eq!(shown("test=b.x"), ["b.*", ">"]);
        assert_eq!(shown("search=B"), ["b.*"]);
        assert_eq!(shown("offset=9"), Vec::<String>::new());
        for wrong in ["sort=x", "order=x", "test=a..b", "offset=y", "colour=1"] {
            assert!(document(&patterns, &Query::new(wrong)).is_err(), "{wrong}");
        }
    }
}
