//! The server of a case: the program, on ports that it has again when it is back, and what it has counted.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use crate::support::port;
use crate::support::process::Process;
use crate::support::program::kcpq_after;
use crate::support::wait::LIMIT;

/// A server.
pub(crate) struct Node {
    process: Option<Process>,
    pub(crate) addr: String,
    pub(crate) http: String,
    /// What a shell does before it becomes the server, if it is that.
    first: String,
    args: Vec<String>,
}

impl Node {
    /// Starts one.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_after("", args)
    }

    /// The same, in a shell that sees to `first`.
    pub(crate) fn start_after(first: &str, args: &[&str]) -> Self {
        Self::start_as(first, args, &mut kcpq_after(first))
    }

    /// The same, by a command of its own.
    pub(crate) fn start_as(first: &str, args: &[&str], command: &mut Command) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (addr, http) = (port::free_addr().to_string(), port::free_addr().to_string());
        let mut node = Self { process: None, addr, http, first: first.into(), args };
        node.run(command);
        node
    }

    fn run(&mut self, command: &mut Command) {
        command.args(["serve", "-l", &self.addr, "--http", &self.http]).args(&self.args);
        let mut process = Process::spawn(command);
        self.addr = process.expect_line("listening on ", LIMIT);
        self.http = process.expect_line("monitoring on http://", LIMIT);
        self.process = Some(process);
    }

    /// SIGKILL: nothing is said to anybody.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.run(&mut kcpq_after(&self.first.clone()));
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("it was not killed")
    }

    /// SIGTERM, as a regular end.
    pub(crate) fn end(mut self) {
        let process = self.process.take().expect("it was not killed");
        process.terminate();
        let output = process.wait(LIMIT);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A document of these.
    pub(crate) fn document(&self, target: &str) -> Value {
        serde_json::from_str(&get(&self.http, target).unwrap()).unwrap()
    }

    /// What it has counted, up to a second ago.
    pub(crate) fn counted(&self) -> Counted {
        let text = get(&self.http, "/metrics").unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket"));
        let figure = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.strip_prefix("kcpq_")?.to_owned(), value.parse::<f64>().ok()?))
        };
        Counted(lines.filter_map(figure).collect())
    }

    /// A figure of /proc/PID/status, in KiB.
    pub(crate) fn status_kib(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process().id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// What a server answers over HTTP.
///
/// # Errors
/// The system's.
pub(crate) fn get(http: &str, target: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {http}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The metrics of a server, without what is the same in all names.
#[derive(Debug)]
pub(crate) struct Counted(BTreeMap<String, f64>);

impl Counted {
    /// One of them.
    pub(crate) fn of(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("there is no {name}")) as u64
    }

    /// Messages that came from publishers.
    pub(crate) fn came(&self) -> u64 {
        self.of("messages_received_total")
    }

    /// Messages that were queued, once for each subscriber.
    pub(crate) fn queued(&self) -> u64 {
        self.of("messages_delivered_total")
    }

    /// Messages that were not, or did not leave the queue, for this reason.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.of(&format!("messages_dropped_total{{reason=\"{reason}\"}}"))
    }

    /// All that is dropped for other reasons than these.
    pub(crate) fn dropped_otherwise(&self, but: &[&str]) -> u64 {
        let is_other = |name: &str| {
            let reason =
                name.strip_prefix("messages_dropped_total{reason=\"").and_then(|rest| rest.strip_suffix("\"}"));
            reason.is_some_and(|reason| !but.contains(&reason))
        };
        self.0.iter().filter(|(name, _)| is_other(name)).map(|(_, value)| *value as u64).sum()
    }
}
