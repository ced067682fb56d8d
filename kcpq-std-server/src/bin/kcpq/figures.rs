//! Numbers as people read them: three digits and a unit.

use std::time::Duration;

/// What is shown where nothing is known.
const UNKNOWN: &str = "-";

/// So many things a second.
pub(super) fn rate(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.into(), |value| scaled(value, &["", "k", "M", "G"], 1000.0))
}

/// Bytes, in powers of 1000.
pub(super) fn bytes(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.into(), |value| scaled(value, &["B", "kB", "MB", "GB", "TB"], 1000.0))
}

/// A short time in seconds.
pub(super) fn span(value: Option<f64>) -> String {
    match value {
        None => UNKNOWN.into(),
        Some(seconds) if seconds >= 1.0 => scaled(seconds, &["s"], f64::MAX),
        Some(seconds) => scaled(seconds * 1e6, &["us", "ms"], 1000.0),
    }
}

/// A share.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.into(), |value| format!("{:.1}%", value * 100.0))
}

/// A long time in seconds, to the second, with its two largest units.
pub(super) fn age(value: f64) -> String {
    let text = humantime::format_duration(Duration::from_secs(value.max(0.0) as u64)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A text that somebody else chose, without what a terminal would act on.
pub(super) fn tame(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

fn scaled(mut value: f64, units: &[&str], base: f64) -> String {
    let mut unit = 0;
    while value.abs() >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = if value == value.trunc() || value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let unit = units.get(unit).copied().unwrap_or_default();
    format!("{value:.digits$}{}{unit}", if unit.is_empty() { "" } else { " " })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_the_unit_that_fits() {
        assert_eq!(rate(Some(0.0)), "0");
        assert_eq!(rate(Some(7.123)), "7.12");
        assert_eq!(rate(Some(12_345.0)), "12.3 k");
        assert_eq!(bytes(Some(999.0)), "999 B");
        assert_eq!(bytes(Some(1_500_000.0)), "1.50 MB");
        assert_eq!(
            (span(Some(0.000_25)), span(Some(0.012_3)), span(Some(90.0))),
            ("250 us".into(), "12.3 ms".into(), "90 s".into())
        );
        assert_eq!((percent(Some(0.125)), percent(None)), ("12.5%".into(), "-".into()));
        assert_eq!(age(3_725.9), "1h 2m");
        assert_eq!(tame("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
    }
}
