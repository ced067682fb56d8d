//! The log of `kcpq serve`: what is written, as what, and how much of it.
//!
//! ```text
//! event -> level -> flood -> lines (text, JSON, the journal's) -> log: a queue, and a thread that writes to standard error
//! ```

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::flood::Flood;
use crate::log::Log;

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The journal's if standard error goes to it, otherwise text
    Auto,
    /// Text, with colours on a terminal
    Text,
    /// One JSON object a line
    Json,
    /// Text without the time, each line behind its priority, as systemd's journal takes it
    Journal,
}

/// Changes what is written.
pub(crate) type SetLevel = Box<dyn Fn(Targets)>;

/// A log that is written from now on.
pub(crate) struct Logging {
    pub(crate) log: Log,
    pub(crate) flood: Flood,
    pub(crate) set_level: SetLevel,
}

impl Logging {
    /// Begins to write to standard error.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub(crate) fn start(level: Targets, format: Format) -> io::Result<Self> {
        let log = Log::start(io::stderr())?;
        let flood = Flood::default();
        let (filter, level) = reload::Layer::new(level);
        tracing_subscriber::registry().with(lines(format, log.clone())).with(flood.clone()).with(filter).init();
        Ok(Self { log, flood, set_level: Box::new(move |wanted| drop(level.reload(wanted))) })
    }
}

/// What makes lines of events.
fn lines(format: Format, log: Log) -> Box<dyn Layer<Registry> + Send + Sync> {
    match format {
        Format::Json => fmt::layer().json().flatten_event(true).with_writer(log).boxed(),
        Format::Journal => of_journal(log),
        Format::Auto if goes_to_journal() => of_journal(log),
        Format::Auto | Format::Text => fmt::layer().with_writer(log).with_ansi(io::stderr().is_terminal()).boxed(),
    }
}

fn of_journal(log: Log) -> Box<dyn Layer<Registry> + Send + Sync> {
    fmt::layer().without_time().with_level(false).with_ansi(false).with_writer(Journal(log)).boxed()
}

/// True if standard error is systemd's journal (systemd.exec(5), `$JOURNAL_STREAM`).
#[cfg(unix)]
fn goes_to_journal() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    let own = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| std::fs::File::from(fd).metadata());
    own.is_ok_and(|own| said == format!("{}:{}", own.dev(), own.ino()))
}

#[cfg(not(unix))]
fn goes_to_journal() -> bool {
    false
}

/// Writes the priority before each line (sd-daemon(3)).
#[derive(Clone, Debug)]
struct Journal(Log);

/// The same for one event.
struct JournalLine {
    log: Log,
    priority: &'static str,
}

impl<'w> MakeWriter<'w> for Journal {
    type Writer = JournalLine;

    fn make_writer(&'w self) -> JournalLine {
        JournalLine { log: self.0.clone(), priority: priority(Level::INFO) }
    }

    fn make_writer_for(&'w self, event: &Metadata<'_>) -> JournalLine {
        JournalLine { log: self.0.clone(), priority: priority(*event.level()) }
    }
}

/// Each call is an event. An event of several lines is several of the journal's.
impl Write for JournalLine {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let lines: String = text.lines().map(|line| format!("{}{line}\n", self.priority)).collect();
        self.log.write_all(lines.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As syslog(3) numbers them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// What is written: a level, or levels by where a line is from, as in `RUST_LOG`.
///
/// # Errors
/// For people: what is none.
pub(crate) fn parse_level(text: &str) -> Result<Targets, String> {
    // Of a variable that is set and empty.
    let text = if text.trim().is_empty() { "info" } else { text };
    for part in text.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if level.trim().parse::<LevelFilter>().is_err() {
            return Err(format!(
                "'{part}' is no level: use off, error, warn, info, debug or trace, or TARGET=LEVEL, separated by commas"
            ));
        }
    }
    text.parse::<Targets>().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What becomes of a few events.
    fn written(format: Format) -> String {
        let out = Written::default();
        let log = Log::start(out.clone()).unwrap();
        let subscriber = tracing_subscriber::registry().with(lines(format, log.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(count = 3, "one");
            tracing::error!("two\nlines");
        });
        log.finish(std::time::Duration::from_secs(60));
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_text_json_or_what_the_journal_reads() {
        let text = written(Format::Text);
        assert!(text.contains(" INFO ") && text.contains("one count=3"), "{text}");
        let json: Vec<serde_json::Value> =
            written(Format::Json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&json[0]["level"], &json[0]["message"], &json[0]["count"]),
            (&"INFO".into(), &"one".into(), &3.into())
        );
        assert_eq!(json[1]["message"], "two\nlines");
        let journal = written(Format::Journal);
        let lines: Vec<&str> = journal.lines().collect();
        assert!(lines[0].starts_with("<6>") && lines[0].ends_with("one count=3"), "{journal}");
        assert!(lines[1].starts_with("<3>") && lines[1].ends_with("two") && lines[2] == "<3>lines", "{journal}");
    }

    #[test]
    fn levels_are_for_all_or_by_where_lines_are_from() {
        let says = |text: &str, target: &str, level| parse_level(text).unwrap().would_enable(target, &level);
        assert!(says("info", "x", Level::INFO) && !says("info", "x", Level::DEBUG));
        assert!(says("warn,kcpq_std_server=debug", "kcpq_std_server::shard", Level::DEBUG));
        assert!(!says("warn,kcpq_std_server=debug", "other", Level::INFO));
        assert!(!says("off", "x", Level::ERROR) && says(" ", "x", Level::INFO));
        for wrong in ["verbose", "x=loud", "a[b]=info,x"] {
            assert!(parse_level(wrong).is_err(), "{wrong}");
        }
    }
}
