//! Clients that are processes of their own, so that they can be killed and stopped: `kcpq sub` and `kcpq pub`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::load::{SIZE, message, number};
use crate::support::folder::Folder;
use crate::support::process::Process;
use crate::support::program::kcpq;
use crate::support::wait::LIMIT;

/// A subscriber that prints what comes.
pub(crate) struct Subscriber(Process);

impl Subscriber {
    /// Ready when it is subscribed.
    pub(crate) fn start(addr: &str, pattern: &str) -> Self {
        Self::start_by(&mut kcpq(), addr, pattern)
    }

    /// The same, by a command that is the program.
    pub(crate) fn start_by(program: &mut Command, addr: &str, pattern: &str) -> Self {
        let process = Process::spawn(program.args(["sub", "-s", addr, pattern, "--lines"]));
        process.expect_error_line("subscribed to ", LIMIT);
        Self(process)
    }

    /// Waits until it has printed this one.
    pub(crate) fn prints(&mut self, number: u64) {
        self.0.expect_line(&format!("{number} "), LIMIT);
    }

    /// How many it has printed.
    pub(crate) fn printed(&self) -> u64 {
        self.0.lines() as u64
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.0.signal(signal);
    }

    /// Ends it, and tells which numbers it has printed. A line of which not all was printed is none.
    pub(crate) fn end(self, signal: &str) -> Vec<u64> {
        self.0.signal(signal);
        let output = self.0.wait(LIMIT);
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(number).collect()
    }
}

/// A publisher of numbered messages, as fast as they are taken.
pub(crate) fn publisher(addr: &str, subject: &str, messages: &Path) -> Process {
    let file = messages.to_str().unwrap();
    Process::spawn(kcpq().args(["pub", "-s", addr, subject, "--lines", "--file", file]))
}

/// A file with so many of them.
pub(crate) fn messages(folder: &Folder, count: u64) -> std::path::PathBuf {
    let mut text = String::new();
    for number in 0..count {
        writeln!(text, "{}", message(number, SIZE)).unwrap();
    }
    folder.write("messages", &text)
}
