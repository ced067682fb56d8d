//! `kcpq reply`.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;

use clap::Parser;
use futures_lite::future::or;
use kcpq_smol::{Client, Message, Subscription};

use super::header::Header;
use super::interrupt::Interrupt;
use super::{Failure, ServerArg, say};

/// The flags of `kcpq reply`.
#[derive(Debug, Parser)]
pub(super) struct Reply {
    #[command(flatten)]
    server: ServerArg,
    /// Subject to answer; `*` matches one token, `>` one or more at the end
    subject: String,
    /// The answer
    #[arg(required_unless_present_any = ["echo", "command"], conflicts_with_all = ["echo", "command"])]
    payload: Option<String>,
    /// Answer with what was asked
    #[arg(long, conflicts_with = "command")]
    echo: bool,
    /// Answer with what this command prints, run by the shell with what was asked on standard input and the subject in
    /// KCPQ_SUBJECT; if it fails its exit code goes along as header Exit-Code
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// As a member of this queue group: each request goes to one member
    #[arg(short, long, value_name = "GROUP")]
    queue: Option<String>,
    /// Exit after this many answers
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// Add a header to answers; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = Header::from_str)]
    headers: Vec<Header>,
}

/// An answer.
struct Answer {
    payload: Vec<u8>,
    /// How the command ended, if it was not well.
    exit_code: Option<String>,
}

impl Reply {
    /// Answers until the count is reached or a signal comes.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut interrupt = Interrupt::listen()?;
        let client = self.server.connect("kcpq reply").await?;
        let subscribe = client.subscribe(&self.subject);
        let mut questions = match &self.queue {
            Some(group) => subscribe.queue(group).await?,
            None => subscribe.await?,
        };
        // For scripts that wait for it.
        say(&format!("answering {}", self.subject));
        let stopped = async {
            interrupt.come().await;
            Ok(())
        };
        let answered = or(stopped, self.answer_all(&client, &mut questions)).await;
        drop(questions);
        let flushed = client.flush().await;
        let closed = client.close().await;
        answered?;
        flushed?;
        Ok(closed?)
    }

    async fn answer_all(&self, client: &Client, questions: &mut Subscription) -> Result<(), Failure> {
        let mut answered = 0;
        while self.count.is_none_or(|count| answered < count) {
            let Some(question) = questions.next().await else {
                return Err(Failure::Error("the subscription ended".into()));
            };
            // What asks for no answer gets none.
            if question.reply_to().is_none() {
                continue;
            }
            let Answer { payload, exit_code } = self.answer(&question).await?;
            let headers = self.headers.iter().map(Header::parts);
            let exit_code = exit_code.as_deref().map(|code| ("Exit-Code", code));
            question.respond(client, payload).headers(headers.chain(exit_code)).await?;
            answered += 1;
        }
        Ok(())
    }

    async fn answer(&self, question: &Message) -> Result<Answer, Failure> {
        let payload = match (&self.payload, &self.command) {
            (Some(payload), _) => payload.clone().into_bytes(),
            (None, None) => question.payload().to_vec(),
            (None, Some(command)) => {
                let (command, question) = (command.clone(), question.clone());
                return smol::unblock(move || run(&command, &question)).await;
            }
        };
        Ok(Answer { payload, exit_code: None })
    }
}

/// Runs a command for a question.
fn run(command: &str, question: &Message) -> Result<Answer, Failure> {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut child = Command::new(shell)
        .args([flag, command])
        .env("KCPQ_SUBJECT", question.subject())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::Error(format!("cannot run '{command}': {error}")))?;
    // Beside reading what it prints: it may print before it has read all.
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(question.payload())));
        child.wait_with_output()
    });
    let output = output.map_err(|error: io::Error| Failure::Error(format!("cannot run '{command}': {error}")))?;
    let exit_code = match output.status.code() {
        Some(0) => None,
        Some(code) => Some(code.to_string()),
        None => Some("signal".into()),
    };
    Ok(Answer { payload: output.stdout, exit_code })
}
