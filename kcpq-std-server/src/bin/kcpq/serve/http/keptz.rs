//! `/keptz`: the last values of subjects that are kept.

use std::cmp::Reverse;

use kcpq_core::subject::{Limits, Pattern, Subject};
use kcpq_std_server::broker::KeptView;
use serde_json::{Value, json};

use super::query::{Query, seconds};

/// A page of values, by their subjects.
///
/// # Errors
/// For people: what is wrong with the query.
pub(super) fn document(values: &[KeptView], query: &Query) -> Result<Value, String> {
    query.knows(&["offset", "limit", "sort", "order", "search", "test"])?;
    const LIMITS: Limits = Limits { max_len: u16::MAX, max_tokens: u8::MAX };
    let test = query.get("test").map(|text| Pattern::new(text, &LIMITS).map_err(|error| format!("test: {error}")));
    let test = test.transpose()?;
    let matches = |text: &str| match test {
        None => true,
        Some(pattern) => Subject::new(text, &LIMITS).is_ok_and(|subject| pattern.matches(subject)),
    };
    let mut list: Vec<&KeptView> = values.iter().collect();
    list.retain(|value| matches(&value.subject) && query.finds(std::iter::once(&*value.subject)));
    match query.get("sort").unwrap_or("subject") {
        "subject" if query.is_ascending(true)? => {}
        "subject" => list.reverse(),
        "size" if query.is_ascending(false)? => list.sort_by_key(|value| value.payload().len()),
        "size" => list.sort_by_key(|value| Reverse(value.payload().len())),
        "age" if query.is_ascending(true)? => list.sort_by_key(|value| value.age),
        "age" => list.sort_by_key(|value| Reverse(value.age)),
        other => return Err(format!("sort: '{other}' is not known; known are subject, size, age")),
    }
    let page = query.page(list.len())?;
    let shown: Vec<Value> = list
        .get(page.range.clone())
        .unwrap_or_default()
        .iter()
        .map(|value| {
            json!({
                "subject": value.subject,
                "size": value.payload().len(),
                "age_seconds": seconds(value.age.as_micros()),
                "left_seconds": value.left.map(|left| seconds(left.as_micros())),
            })
        })
        .collect();
    Ok(json!({
        "num_values": values.len(),
        "total": list.len(),
        "offset": page.offset,
        "limit": page.limit,
        "values_list": shown,
    }))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kcpq_core::frame::{Frame, command};
    use kcpq_core::{Duration, Instant};
    use kcpq_std_server::broker::{Broker, Config, KeptCursor};

    use super::*;

    fn values() -> Vec<KeptView> {
        let mut broker = Broker::<SocketAddr>::new(Config::default(), 1);
        for (subject, len, age, left) in [("a.b", 10, 3, None), ("a.c", 30, 1, Some(60)), ("b", 20, 2, None)] {
            let frame = Frame { command: command::MSG, subject: subject.as_bytes(), payload: &vec![7; len] };
            let mut bytes = vec![0; frame.encoded_len()];
            frame.encode(&mut bytes).unwrap();
            let left = left.map(Duration::from_secs);
            broker.restore(Instant::ZERO, &bytes.into(), Duration::from_secs(age), left).unwrap();
        }
        broker.view_kept(&KeptCursor::default(), 10).items
    }

    #[test]
    fn values_come_by_subject_size_or_age_in_pages_or_by_what_matches_them() {
        let values = values();
        let shown = |query: &str| {
            let document = document(&values, &Query::new(query)).unwrap();
            assert_eq!(document["num_values"], json!(3));
            let list = document["values_list"].as_array().unwrap();
            list.iter().map(|entry| entry["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(shown(""), ["a.b", "a.c", "b"]);
        assert_eq!(shown("order=desc&limit=2"), ["b", "a.c"]);
        assert_eq!(shown("sort=size"), ["a.c", "b", "a.b"]);
        assert_eq!(shown("sort=size&order=asc&offset=1"), ["b", "a.c"]);
        assert_eq!(shown("sort=age"), ["a.c", "b", "a.b"]);
        assert_eq!(shown("sort=age&order=desc"), ["a.b", "b", "a.c"]);
        assert_eq!(shown("test=a.*"), ["a.b", "a.c"]);
        assert_eq!(shown("search=C"), ["a.c"]);
        for wrong in ["sort=x", "order=x", "test=a..b", "offset=y", "colour=1"] {
            assert!(document(&values, &Query::new(wrong)).is_err(), "{wrong}");
        }
        let document = document(&values, &Query::new("test=a.c")).unwrap();
        let entry = &document["values_list"][0];
        assert_eq!(
            (&entry["size"], &entry["age_seconds"], &entry["left_seconds"]),
            (&json!(30), &json!(1.0), &json!(60.0))
        );
    }
}
