//! A guard for child processes: their output is read from the start, and they end with the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A running child. It is killed when this is dropped; other processes, its own children included, are not touched.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: Arc<Log>,
    /// Lines of stdout that [`Process::expect_line`] has passed.
    seen: usize,
}

impl Process {
    /// Starts the command with its stdin closed.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with_output(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// The same, with its output where the command says: what is no pipe of ours is not read.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub(crate) fn spawn_with_output(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child =
            command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Arc::new(Log::default());
        match child.stdout.take() {
            Some(stdout) => read_lines(stdout, &log, |state| &mut state.stdout),
            None => log.lock().stdout.ended = true,
        }
        match child.stderr.take() {
            Some(stderr) => read_lines(stderr, &log, |state| &mut state.stderr),
            None => log.lock().stderr.ended = true,
        }
        Self { child, name, log, seen: 0 }
    }

    /// Waits for a line of stdout that starts with `prefix` and returns what follows it, without the line end. Each line
    /// is looked at once: the next call goes on behind the line found.
    ///
    /// # Panics
    ///
    /// With all output so far, if the line does not come in time or the process closes its stdout before.
    pub(crate) fn expect_line(&mut self, prefix: &str, timeout: Duration) -> String {
        let deadline = Instant::now() + timeout;
        let mut state = self.log.lock();
        loop {
            for line in state.stdout.lines.iter().skip(self.seen) {
                self.seen += 1;
                if let Some(rest) = String::from_utf8_lossy(line).strip_prefix(prefix) {
                    return rest.trim_end_matches(['\r', '\n']).to_owned();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.stdout.ended || left.is_zero() {
                let why = if state.stdout.ended { "its stdout has ended" } else { "time is up" };
                panic!("{}: no line {prefix:?}: {why}\n{}", self.name, state.text());
            }
            state = self.log.wait(state, left);
        }
    }

    /// How many lines of stdout there are so far.
    pub(crate) fn lines(&self) -> usize {
        self.printed("")
    }

    /// Lines of stdout so far that start with `prefix`.
    pub(crate) fn printed(&self, prefix: &str) -> usize {
        let state = self.log.lock();
        state.stdout.lines.iter().filter(|line| line.starts_with(prefix.as_bytes())).count()
    }

    /// Waits for a line of stderr that starts with `prefix`.
    ///
    /// # Panics
    ///
    /// With all output so far, if the line does not come in time.
    pub(crate) fn expect_error_line(&self, prefix: &str, timeout: Duration) {
        self.expect_error(prefix, timeout, |line| line.starts_with(prefix));
    }

    /// Waits for a line of stderr, as those of a log, that has `part` in it.
    ///
    /// # Panics
    ///
    /// With all output so far, if the line does not come in time.
    pub(crate) fn expect_logged(&self, part: &str, timeout: Duration) {
        self.expect_error(part, timeout, |line| line.contains(part));
    }

    fn expect_error(&self, what: &str, timeout: Duration, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + timeout;
        let mut state = self.log.lock();
        while !state.stderr.lines.iter().any(|line| wanted(&String::from_utf8_lossy(line))) {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.stderr.ended || left.is_zero() {
                panic!("{}: no line {what:?} on stderr\n{}", self.name, state.text());
            }
            state = self.log.wait(state, left);
        }
    }

    /// Waits for the end of the process and returns its status and all output.
    ///
    /// # Panics
    ///
    /// With all output so far, if it has not ended in time; it is killed then.
    pub(crate) fn wait(mut self, timeout: Duration) -> Output {
        let deadline = Instant::now() + timeout;
        let mut state = self.log.lock();
        while !(state.stdout.ended && state.stderr.ended) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                panic!("{} has not ended in time\n{}", self.name, state.text());
            }
            state = self.log.wait(state, left);
        }
        let (stdout, stderr) = (state.stdout.lines.concat(), state.stderr.lines.concat());
        drop(state);
        // The pipes close just before the process is gone; the standard library has no wait with a limit.
        loop {
            match self.child.try_wait().expect("the state of an own child") {
                Some(status) => return Output { status, stdout, stderr },
                None if Instant::now() >= deadline => panic!("{} has closed its output but goes on", self.name),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// What the system calls the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to end (SIGTERM), for those that report something at the end.
    ///
    /// # Panics
    ///
    /// If the command `kill` fails.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// The same as Ctrl-C at a terminal (SIGINT).
    ///
    /// # Panics
    ///
    /// If the command `kill` fails.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    /// Sends a signal, named as for the command `kill`.
    ///
    /// # Panics
    ///
    /// If the command `kill` fails.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal} of {} failed", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    stdout: Stream,
    stderr: Stream,
}

#[derive(Debug, Default)]
struct Stream {
    /// With their line ends, so that together they are the output.
    lines: Vec<Vec<u8>>,
    ended: bool,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, LogState>, timeout: Duration) -> MutexGuard<'a, LogState> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl LogState {
    fn text(&self) -> String {
        let text = |stream: &Stream| String::from_utf8_lossy(&stream.lines.concat()).into_owned();
        format!("--- stdout\n{}--- stderr\n{}", text(&self.stdout), text(&self.stderr))
    }
}

/// Reads in a thread of its own, so that a full pipe never stops the child. It ends with the pipe.
fn read_lines(pipe: impl Read + Send + 'static, log: &Arc<Log>, stream: fn(&mut LogState) -> &mut Stream) {
    let log = log.clone();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            let read = pipe.read_until(b'\n', &mut line);
            let mut state = log.lock();
            let stream = stream(&mut state);
            match read {
                Ok(1..) => stream.lines.push(line),
                Ok(0) | Err(_) => stream.ended = true,
            }
            let ended = stream.ended;
            drop(state);
            log.changed.notify_all();
            if ended {
                return;
            }
        }
    });
}
