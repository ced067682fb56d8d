//! What is shown of one look at a server, as texts.

use std::fmt::Write;

use serde_json::Value;

use super::{Sort, figures};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Which server, in a line.
    pub(super) server: String,
    /// Names and values.
    pub(super) figures: Vec<(&'static str, String)>,
    /// Why messages were dropped, if any were, and that the kernel did.
    pub(super) drops: Vec<String>,
    pub(super) rows: Vec<[String; COLUMNS.len()]>,
    /// Sessions on all pages.
    pub(super) total: usize,
}

/// A column of the table of sessions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Characters.
    pub(super) width: u16,
    /// Where there is no room for all those with the greatest go first.
    pub(super) rank: u8,
    pub(super) sort: Option<Sort>,
}

const fn column(title: &'static str, width: u16, rank: u8, sort: Option<Sort>) -> Column {
    Column { title, width, rank, sort }
}

/// The first takes what room is left.
pub(super) const COLUMNS: [Column; 11] = [
    column("CLIENT", 16, 0, Some(Sort::Name)),
    column("ADDRESS", 21, 8, None),
    column("KIND", 8, 10, None),
    column("RTT", 8, 3, Some(Sort::Rtt)),
    column("LOST", 6, 4, Some(Sort::Loss)),
    column("FROM/S", 7, 6, Some(Sort::From)),
    column("TO/S", 7, 1, Some(Sort::Rate)),
    column("DATA TO/S", 9, 9, None),
    column("QUEUE", 8, 2, Some(Sort::Queue)),
    column("DROPPED", 8, 5, Some(Sort::Dropped)),
    column("UP", 10, 7, None),
];

/// Which columns fit, and how wide the first is then.
pub(super) fn fitting(width: u16) -> (Vec<usize>, u16) {
    let mut shown: Vec<usize> = (0..COLUMNS.len()).collect();
    let needed = |shown: &[usize]| shown.iter().map(|index| COLUMNS[*index].width + 1).sum::<u16>().saturating_sub(1);
    while needed(&shown) > width
        && let Some((at, _)) = shown.iter().enumerate().skip(1).max_by_key(|(_, index)| COLUMNS[**index].rank)
    {
        shown.remove(at);
    }
    let first = COLUMNS[0].width + width.saturating_sub(needed(&shown));
    (shown, first.min(width))
}

impl Look {
    /// From the documents of the HTTP port; rates of the server are those since the look before.
    pub(super) fn new(before: Option<&Value>, varz: &Value, connz: &Value) -> Self {
        let per_second = |path: &str| {
            let before = before.filter(|before| before["start"] == varz["start"])?;
            let seconds = number(varz, "/uptime_seconds")? - number(before, "/uptime_seconds")?;
            let since = number(varz, path)? - number(before, path)?;
            (seconds > 0.2).then(|| since.max(0.0) / seconds)
        };
        let text = |path: &str| varz.pointer(path).and_then(Value::as_str).map(figures::tame).unwrap_or_default();
        let whole = |path: &str| number(varz, path).map_or_else(|| "-".into(), |value| format!("{value:.0}"));
        let loss = match (per_second("/transport/lost"), per_second("/transport/segments_out")) {
            (Some(lost), Some(sent)) if sent > 0.0 => Some((lost / sent).min(1.0)),
            (Some(_), Some(_)) => Some(0.0),
            _ => None,
        };
        let in_and_out = |form: fn(Option<f64>) -> String, from: &str, to: &str| {
            format!("{} in, {} out", form(per_second(from)), form(per_second(to)))
        };
        let figures = vec![
            ("sessions", format!("{} of {}", whole("/connections"), whole("/max_connections"))),
            ("patterns", whole("/subscriptions")),
            ("messages/s", in_and_out(figures::rate, "/in_msgs", "/out_msgs")),
            ("bytes/s", in_and_out(figures::bytes, "/in_bytes", "/out_bytes")),
            (
                "round trip",
                format!(
                    "{}, 99% {}",
                    figures::span(number(varz, "/rtt_seconds/p50")),
                    figures::span(number(varz, "/rtt_seconds/p99"))
                ),
            ),
            ("lost", figures::percent(loss)),
            ("waits", figures::bytes(number(varz, "/pending_bytes"))),
        ];
        let rows = connz["connections"].as_array().into_iter().flatten().map(row).collect();
        let total = number(connz, "/total").unwrap_or(0.0) as usize;
        let server = format!(
            "{} {} on {}, up {}",
            text("/server_name"),
            text("/version"),
            varz["listen"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            figures::age(number(varz, "/uptime_seconds").unwrap_or(0.0))
        );
        Self { server, figures, drops: drops(varz, &per_second), rows, total }
    }

    /// For pipes: all columns, whatever their width.
    pub(super) fn to_text(&self) -> String {
        let mut out = format!("{}\n", self.server);
        for (name, value) in &self.figures {
            let _ = writeln!(out, "{name:<12}{value}");
        }
        for drop in &self.drops {
            let _ = writeln!(out, "{:<12}{drop}", "dropped");
        }
        let titles = COLUMNS.map(|column| column.title.to_owned());
        let mut widths = COLUMNS.map(|column| usize::from(column.width));
        for row in &self.rows {
            widths.iter_mut().zip(row).for_each(|(width, text)| *width = text.chars().count().max(*width));
        }
        out.push('\n');
        for row in std::iter::once(&titles).chain(&self.rows) {
            let cells = row.iter().zip(widths).enumerate();
            let line: Vec<String> = cells
                .map(
                    |(index, (text, width))| {
                        if is_text(index) { format!("{text:<width$}") } else { format!("{text:>width$}") }
                    },
                )
                .collect();
            let _ = writeln!(out, "{}", line.join(" ").trim_end());
        }
        if self.rows.len() < self.total {
            let _ = writeln!(out, "{} of {} sessions", self.rows.len(), self.total);
        }
        out
    }
}

/// The first columns are texts; figures stand at the right.
pub(super) fn is_text(column: usize) -> bool {
    column < 3
}

fn drops(varz: &Value, per_second: &dyn Fn(&str) -> Option<f64>) -> Vec<String> {
    let reasons =
        varz["dropped"].as_object().into_iter().flatten().map(|(reason, _)| (&**reason, format!("/dropped/{reason}")));
    let kernel = ("kernel", "/udp_receive_dropped".to_owned());
    let all = reasons.chain([kernel]).filter_map(|(reason, path)| {
        let count = number(varz, &path).filter(|count| *count > 0.0)?;
        Some(format!("{count:.0} {} ({}/s)", reason.replace('_', " "), figures::rate(per_second(&path))))
    });
    all.collect()
}

fn row(session: &Value) -> [String; COLUMNS.len()] {
    let text = |name: &str| session[name].as_str().map(figures::tame);
    let of = |path: &str| number(session, path);
    let who = match (text("name"), text("authorized_user")) {
        (Some(name), Some(user)) => format!("{name} ({user})"),
        (name, user) => name.or(user).unwrap_or_else(|| "-".into()),
    };
    let host = text("ip").unwrap_or_default();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let dropped: f64 =
        session["dropped"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_f64()).sum();
    [
        who,
        format!("{host}:{:.0}", of("/port").unwrap_or(0.0)),
        text("kind").unwrap_or_default().replace("original_with_key", "orig+key"),
        figures::span(of("/rtt_seconds")),
        figures::percent(of("/loss")),
        figures::rate(of("/in_msgs_rate")),
        figures::rate(of("/out_msgs_rate")),
        figures::bytes(of("/out_bytes_rate")),
        figures::bytes(of("/pending_bytes")),
        format!("{dropped:.0}"),
        figures::age(of("/uptime_seconds").unwrap_or(0.0)),
    ]
}

fn number(document: &Value, path: &str) -> Option<f64> {
    document.pointer(path)?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_many_columns_are_shown_as_fit_and_the_least_important_go_first() {
        let (all, first) = fitting(200);
        assert_eq!((all.len(), first), (COLUMNS.len(), 16 + 200 - 118));
        let titles = |width| fitting(width).0.into_iter().map(|index| COLUMNS[index].title).collect::<Vec<_>>();
        assert_eq!(titles(80), ["CLIENT", "RTT", "LOST", "FROM/S", "TO/S", "QUEUE", "DROPPED", "UP"]);
        assert_eq!(titles(40), ["CLIENT", "TO/S", "QUEUE"]);
        assert_eq!((titles(10), fitting(10).1), (vec!["CLIENT"], 10));
        assert_eq!(fitting(0).1, 0);
    }

    #[test]
    fn rates_are_those_since_the_look_before_of_the_same_server() {
        let varz = |start: u64, uptime: f64, messages: u64| {
            json!({ "start": start, "uptime_seconds": uptime, "in_msgs": messages, "out_msgs": 0,
                    "dropped": { "slow": messages, "expired": 0 }, "server_name": "x\u{7}" })
        };
        let rate = |before: &Value, now: &Value| Look::new(Some(before), now, &Value::Null).figures[2].1.clone();
        assert_eq!(rate(&varz(1, 1.0, 10), &varz(1, 3.0, 30)), "10 in, 0 out");
        assert_eq!(rate(&varz(1, 100.0, 10), &varz(2, 3.0, 30)), "- in, - out");
        let look = Look::new(None, &varz(1, 60.0, 7), &Value::Null);
        assert_eq!(look.drops, ["7 slow (-/s)"]);
        // What somebody else chose does nothing to a terminal.
        assert!(look.server.starts_with("x\\u{7} "), "{}", look.server);
    }
}
