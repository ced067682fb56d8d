//! `kcpq stream`: what the store of a server's backbone keeps, as the server says over HTTP. Over HTTP and not in a session: it is
//! for who runs the server, and names streams that clients may not read.

use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::Failure;
use crate::figures;
use crate::web::Site;

/// The flags of `kcpq stream`.
#[derive(Debug, Parser)]
pub(crate) struct Stream {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the streams of the NATS servers that a kcpq server stands on
    Ls(List),
    /// Show one of them, or all
    Info(Info),
}

#[derive(Debug, Parser)]
struct List {
    /// Where the server answers over HTTP (`kcpq serve --http`): a port of this machine, or HOST:PORT
    #[arg(long, default_value = "8222", value_name = "ADDR")]
    http: Site,
    /// Print what the server says, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Parser)]
struct Info {
    /// Of this stream alone
    name: Option<String>,
    #[command(flatten)]
    list: List,
}

/// How long the server may take, which asks NATS.
const PATIENCE: Duration = Duration::from_secs(10);

impl Stream {
    /// Prints them.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (list, name, is_list) = match self.action {
            Action::Ls(list) => (list, None, true),
            Action::Info(Info { name, list }) => (list, name, false),
        };
        let document = list.http.document("/streamz", PATIENCE).await?;
        let all = document["streams_list"].as_array().cloned().unwrap_or_default();
        let found: Vec<Value> =
            all.into_iter().filter(|stream| name.as_ref().is_none_or(|name| stream["name"] == name.as_str())).collect();
        if let Some(name) = name.filter(|_| found.is_empty()) {
            return Err(Failure::Error(format!(
                "there is no stream '{}' at http://{}",
                figures::tame(&name),
                list.http
            )));
        }
        if list.json {
            println!("{:#}", Value::Array(found));
            return Ok(());
        }
        for stream in &found {
            print!("{}", if is_list { line(stream) } else { lines(stream) });
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => figures::tame(text),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(" "),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// A stream in a line: name, how many messages, how large, subjects.
fn line(stream: &Value) -> String {
    let size = figures::bytes(stream["bytes"].as_f64());
    format!(
        "{}  {} messages  {size}  {}\n",
        text(&stream["name"]),
        text(&stream["messages"]),
        text(&stream["subjects"])
    )
}

/// All that is known of it, a line for each.
fn lines(stream: &Value) -> String {
    let size = figures::bytes(stream["bytes"].as_f64());
    let all = [
        ("subjects", text(&stream["subjects"])),
        ("messages", format!("{}, {size}", text(&stream["messages"]))),
        ("sequences", format!("{} to {}", text(&stream["first_sequence"]), text(&stream["last_sequence"]))),
        ("stored", format!("{} to {}", text(&stream["first_time"]), text(&stream["last_time"]))),
        ("readers", text(&stream["consumers"])),
    ];
    let rest: String = all.iter().map(|(name, value)| format!("  {name:10}{value}\n")).collect();
    format!("{}\n{rest}", text(&stream["name"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stream_is_a_line_or_some() {
        let stream = json!({
            "name": "ORDERS", "subjects": ["orders.>", "o\u{1b}"], "messages": 7, "bytes": 2048, "first_sequence": 1,
            "last_sequence": 7, "first_time": "2026-01-01T00:00:00Z", "last_time": null, "consumers": 2,
        });
        assert!(line(&stream).starts_with("ORDERS  7 messages  ") && !line(&stream).contains('\u{1b}'));
        let shown = lines(&stream);
        assert!(shown.contains("  sequences 1 to 7\n") && shown.contains("2026-01-01T00:00:00Z to -\n"), "{shown}");
    }
}
