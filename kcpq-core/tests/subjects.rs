//! Subjects and patterns against recorded rows (docs/original.md 7): the column that says what NATS does.

use kcpq_core::subject::{Limits, Pattern, Subject};
use serde_json::Value;

#[test]
fn each_recorded_row_is_matched_or_refused_as_nats_does() {
    let file: Value = serde_json::from_str(include_str!("vectors/subject_matching.json")).unwrap();
    let rows = file["cases"].as_array().unwrap();
    assert_eq!(rows.len(), 82);
    for row in rows {
        let [pattern, subject, nats] = ["pattern", "subject", "nats"].map(|name| row[name].as_str().unwrap());
        let pattern = Pattern::new(pattern, &Limits::DEFAULT);
        let subject = Subject::new(subject, &Limits::DEFAULT);
        let matches = pattern.and_then(|pattern| subject.map(|subject| pattern.matches(subject)));
        match nats {
            "match" => assert_eq!(matches, Ok(true), "{row}"),
            "no match" => assert_eq!(matches, Ok(false), "{row}"),
            "invalid subscription" => assert!(pattern.is_err(), "{row}"),
            // NATS lets the second kind in and delivers it to nobody; here it is refused.
            "not a legal subject to publish on" | "no match (subject has an empty token)" => {
                assert!(pattern.is_ok() && subject.is_err(), "{row}");
            }
            other => panic!("an unknown verdict: {other}"),
        }
    }
}
