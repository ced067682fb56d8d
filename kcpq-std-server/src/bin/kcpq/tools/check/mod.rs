//! `kcpq check`: looks at what commonly keeps a server or its clients from working, and says what to do about it.
//!
//! Each file of this folder looks at one thing; a check says what is, and if that is not well what to do.

mod machine;
mod monitoring;
mod server;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use futures_lite::future::or;
use serde_json::{Value, json};

use crate::interrupt::Interrupt;
use crate::web::Site;
use crate::{Failure, ServerArg, figures, serve};

/// The flags of `kcpq check`.
#[derive(Debug, Parser)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Check {
    #[command(flatten)]
    server: ServerArg,
    /// Configuration file that a server is to be started with
    #[arg(short, long, env = "KCPQ_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the server answers over HTTP (`kcpq serve --http`): a port of this machine, or HOST:PORT
    #[arg(long, env = "KCPQ_HTTP", value_name = "ADDR")]
    http: Option<Site>,
    /// Look at this machine and the configuration alone, not at a server
    #[arg(long)]
    offline: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 all is well, or works with what there are warnings about, 1 something does not work, \
    2 usage error";

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Well,
    /// It works, and could be better.
    Warning,
    /// It does not work.
    Broken,
}

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    grade: Grade,
    /// What is.
    text: String,
    /// What to do, a line for each thing.
    advice: Vec<String>,
}

impl Finding {
    fn well(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, grade: Grade::Well, text: text.into(), advice: Vec::new() }
    }

    fn warning(what: &'static str, text: impl Into<String>, advice: &[&str]) -> Self {
        let advice = advice.iter().map(|line| (*line).to_owned()).collect();
        Self { what, grade: Grade::Warning, text: text.into(), advice }
    }

    fn broken(what: &'static str, text: impl Into<String>, advice: &[&str]) -> Self {
        Self { grade: Grade::Broken, ..Self::warning(what, text, advice) }
    }
}

impl Check {
    /// Looks at everything, and fails if something does not work.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut interrupt = Interrupt::listen()?;
        let findings = or(async { Some(self.findings().await) }, async {
            interrupt.come().await;
            None
        });
        let Some(findings) = findings.await else { return Ok(()) };
        let text = if self.json { format!("{}\n", to_json(&findings)) } else { to_text(&findings) };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        match findings.iter().filter(|finding| finding.grade == Grade::Broken).count() {
            0 => Ok(()),
            1 => Err(Failure::Error("one thing does not work".into())),
            count => Err(Failure::Error(format!("{count} things do not work"))),
        }
    }

    async fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(path) = &self.config {
            findings.push(match serve::check_file(path) {
                Ok(text) => Finding::well("configuration", text),
                Err(why) => Finding::broken("configuration", why, &[
                    "a server does not start with it; `kcpq serve --config FILE --check` prints what would be in force",
                ]),
            });
        }
        findings.push(machine::buffers());
        if self.offline {
            return findings;
        }
        findings.extend(server::look(&self.server).await);
        if let Some(site) = &self.http {
            findings.extend(monitoring::look(site).await);
        }
        findings
    }
}

fn to_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, grade, text: said, advice } in findings {
        let grade = match grade {
            Grade::Well => "ok",
            Grade::Warning => "warning",
            Grade::Broken => "BROKEN",
        };
        text += &format!("{grade:<8} {what:<15} {}\n", figures::tame(said));
        advice.iter().for_each(|line| text += &format!("{:24} -> {line}\n", ""));
    }
    text
}

fn to_json(findings: &[Finding]) -> Value {
    let checks = findings.iter().map(|Finding { what, grade, text, advice }| {
        let grade = match grade {
            Grade::Well => "ok",
            Grade::Warning => "warning",
            Grade::Broken => "broken",
        };
        json!({ "check": what, "grade": grade, "text": text, "advice": advice })
    });
    json!({
        "ok": findings.iter().all(|finding| finding.grade != Grade::Broken),
        "checks": checks.collect::<Vec<_>>(),
    })
}

/// A time in milliseconds, for people.
fn millis(span: Duration) -> String {
    figures::span(Some(span.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_with_what_to_do() {
        let findings = [
            Finding::well("a", "fine\u{1b}[2J"),
            Finding::warning("b", "slow", &["do this", "or that"]),
            Finding::broken("c", "dead", &[]),
        ];
        let text = to_text(&findings);
        assert!(text.starts_with("ok       a               fine\\u{1b}[2J\nwarning  b"), "{text}");
        assert!(
            text.contains("-> do this\n") && text.contains("-> or that\n") && text.contains("BROKEN   c"),
            "{text}"
        );
        let json = to_json(&findings);
        assert_eq!((&json["ok"], &json["checks"][1]["grade"]), (&false.into(), &"warning".into()));
        assert_eq!(to_json(&findings[..2])["ok"], true);
    }
}
