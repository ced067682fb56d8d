//! Where the log of `kcpq serve` goes: through a queue and a thread of its own, so that nobody waits for a full disk, a
//! pipe that is not read, or a terminal. What does not fit, or cannot be written, is lost, and it is told how much once
//! writing works again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written.
const CAPACITY: usize = 1 << 20;

/// The queue to the thread that writes. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Bytes of their lines in all.
    bytes: usize,
    /// Lines that found no room behind the last entry.
    lost: u64,
    /// An entry is being written.
    busy: bool,
}

/// What is written next.
#[derive(Debug)]
struct Entry {
    /// Lines before this one that were lost.
    lost: u64,
    /// Empty if there is nothing else to tell.
    line: Vec<u8>,
}

impl Log {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        thread::Builder::new().name("kcpq-log".into()).spawn(move || queue.write_to(out))?;
        Ok(Self { shared })
    }

    /// Waits until all is written that was queued, but not for longer than `limit`.
    pub(super) fn finish(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut queue = self.shared.lock();
        while queue.busy || !queue.entries.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// Each call is a line. It never fails and never waits.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.shared.lock();
        if queue.bytes + line.len() > CAPACITY {
            queue.lost += 1;
        } else {
            let entry = Entry { lost: std::mem::take(&mut queue.lost), line: line.into() };
            queue.bytes += line.len();
            queue.entries.push_back(entry);
            drop(queue);
            self.shared.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, for ever.
    fn write_to(&self, mut out: impl Write) {
        // Lines lost that it was not yet possible to tell of.
        let mut lost = 0;
        loop {
            let Entry { lost: before, line } = self.next();
            lost += before;
            if lost > 0 && out.write_all(format!("kcpq: {lost} lines of the log were lost\n").as_bytes()).is_ok() {
                lost = 0;
            }
            if out.write_all(&line).is_err() {
                lost += 1;
            }
        }
    }

    /// Waits for the next entry.
    fn next(&self) -> Entry {
        let mut queue = self.lock();
        queue.busy = false;
        loop {
            let next = match queue.entries.pop_front() {
                Some(entry) => Some(entry),
                None if queue.lost > 0 => Some(Entry { lost: std::mem::take(&mut queue.lost), line: Vec::new() }),
                None => None,
            };
            if let Some(entry) = next {
                queue.bytes -= entry.line.len();
                queue.busy = true;
                return entry;
            }
            self.changed.notify_all();
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// Far more than anything here takes; only a failure waits for it.
    const LIMIT: Duration = Duration::from_secs(60);

    /// Passes on what is written, each time after it has been told whether that works.
    struct Gate {
        works: Receiver<bool>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !bytes.is_empty() && !self.works.recv().unwrap_or(false) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Log, Sender<bool>, Receiver<String>) {
        let ((answer, works), (written, lines)) = (mpsc::channel(), mpsc::channel());
        (Log::start(Gate { works, written }).unwrap(), answer, lines)
    }

    #[test]
    fn nobody_waits_for_a_log_that_nobody_reads_and_what_is_lost_is_counted_in_its_place() {
        let (mut log, answer, written) = gated();
        let line = vec![b'x'; CAPACITY / 8];
        // One is being written, eight wait, the others are too many.
        let mut fits = 0;
        log.write_all(&line).unwrap();
        while log.shared.lock().bytes > 0 {
            thread::yield_now();
        }
        for _ in 0..11 {
            log.write_all(&line).unwrap();
            fits += u64::from(log.shared.lock().lost == 0);
        }
        assert_eq!((fits, log.shared.lock().lost), (8, 3));
        log.finish(Duration::ZERO);
        for _ in 0..9 {
            answer.send(true).unwrap();
            assert_eq!(written.recv_timeout(LIMIT).unwrap().len(), line.len());
        }
        answer.send(true).unwrap();
        assert_eq!(written.recv_timeout(LIMIT).unwrap(), "kcpq: 3 lines of the log were lost\n");
        log.write_all(b"next").unwrap();
        answer.send(true).unwrap();
        log.finish(LIMIT);
        assert_eq!(written.try_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>(), ["next"]);
    }

    #[test]
    fn lines_for_a_full_disk_are_lost_and_told_of_when_there_is_room() {
        let (mut log, answer, written) = gated();
        // The line; the note and the next line; the note and the last line.
        for works in [false, false, false, true, true] {
            answer.send(works).unwrap();
        }
        for line in ["first\n", "second\n", "third\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        log.finish(LIMIT);
        assert_eq!(written.try_iter().collect::<String>(), "kcpq: 2 lines of the log were lost\nthird\n");
    }
}
