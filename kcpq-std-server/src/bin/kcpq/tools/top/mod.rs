//! `kcpq top`.
//!
//! ```text
//! web -> look (what is shown, as texts) -> screen (a terminal), or a table for pipes
//! ```

mod look;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use async_io::Timer;
use clap::{Parser, ValueEnum};
use futures_lite::future::or;
use serde_json::{Value, json};

use self::look::Look;
use crate::interrupt::Interrupt;
use crate::web::Site;
use crate::{Failure, figures};

/// The flags of `kcpq top`.
#[derive(Debug, Parser)]
pub(crate) struct Top {
    /// Where the server answers over HTTP (`kcpq serve --http`): a port of this machine, or HOST:PORT
    #[arg(default_value = "8222", env = "KCPQ_HTTP", value_name = "ADDR")]
    site: Site,
    /// Use what `kcpq context add` has kept under this name [default: the selected one, if no server is named]
    #[arg(long, env = "KCPQ_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// What sessions are sorted by
    #[arg(short, long, value_enum, default_value_t = Sort::Rate, value_name = "COLUMN")]
    sort: Sort,
    /// Time from one look to the next
    #[arg(short, long, default_value = "1s", value_name = "DURATION", value_parser = parse_interval)]
    interval: Duration,
    /// Print a table and end; so it does anyway if standard output is not a terminal
    #[arg(long)]
    once: bool,
    /// Print one JSON object, of /varz and /connz, and end
    #[arg(long)]
    json: bool,
    /// Maximum number of sessions that --once and --json print
    #[arg(short, long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    limit: u16,
}

/// What sessions can be sorted by, the greatest first but for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Messages a second to it
    Rate,
    /// Messages a second from it
    From,
    /// Round trip
    Rtt,
    /// Share of segments lost
    Loss,
    /// Bytes that wait for it
    Queue,
    /// Messages dropped
    Dropped,
    /// Name
    Name,
}

impl Sort {
    const ALL: [Self; 7] = [Self::Rate, Self::From, Self::Rtt, Self::Loss, Self::Queue, Self::Dropped, Self::Name];

    /// As `/connz` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate_to",
            Self::From => "rate_from",
            Self::Rtt => "rtt",
            Self::Loss => "loss",
            Self::Queue => "pending",
            Self::Dropped => "dropped",
            Self::Name => "name",
        }
    }
}

/// Looks are at most a second old: nothing is new before that.
fn parse_interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span < Duration::from_secs(1) => {
            Err("it has to be at least 1s: the server looks no more often".into())
        }
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A look is new after this.
const NEW_AFTER: Duration = Duration::from_millis(1_050);

impl Top {
    /// Shows until somebody wants no more.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut interrupt = Interrupt::listen()?;
        let stop = async {
            interrupt.come().await;
            Ok(())
        };
        if self.once || self.json || !io::stdout().is_terminal() {
            return or(self.print(), stop).await;
        }
        or(screen::run(&self), stop).await
    }

    /// Looks twice, since there are no rates before that.
    async fn print(&self) -> Result<(), Failure> {
        let page = Page { sort: self.sort, offset: 0, limit: self.limit };
        let (first, _) = self.ask(page).await?;
        Timer::after(NEW_AFTER).await;
        let (varz, connz) = self.ask(page).await?;
        let text = if self.json {
            format!("{}\n", json!({ "varz": varz, "connz": connz }))
        } else {
            Look::new(Some(&first), &varz, &connz).to_text()
        };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }

    /// The server, and a page of its sessions.
    async fn ask(&self, page: Page) -> Result<(Value, Value), Failure> {
        let Page { sort, offset, limit } = page;
        let path = format!("/connz?sort={}&offset={offset}&limit={limit}", sort.name());
        let connz = self.site.document(&path, PATIENCE).await?;
        Ok((self.site.document("/varz", PATIENCE).await?, connz))
    }
}

/// Which sessions are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    sort: Sort,
    offset: usize,
    limit: u16,
}
