//! The last values of subjects in a file, so that they outlive the server (PROTOCOL.md 3.11).
//!
//! A thread of its own writes it within a second of a change, beside the place of the old one which it then takes, and
//! once more at the end. If that fails it is told, counted, and tried again until it works, whatever changes meanwhile. A file
//! that cannot be read is told and put aside: what is in it is not overwritten.
//!
//! ```text
//! kcpq values 1\n
//! kept since u64 | lapses at u64 | frame      for each: ms since 1970; 0 for never; PROTOCOL.md 3.1
//! count u64 | crc32 of all before u32         all integers big-endian
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kcpq_core::broker::{Broker, KeptCursor, KeptView};
use kcpq_core::frame::{Frame, Limits};

use crate::handle::Handle;
use crate::peer::Client;
use crate::replace::{replace, with_suffix};
use crate::view::{PLACES, kept};

/// A change is written after this time, with those that come meanwhile.
const SETTLES: Duration = Duration::from_secs(1);
/// What took long to write is not written again before so many times as long has passed.
const PAUSES: u32 = 20;
/// What could not be written is tried again after this time.
const TRIED_AGAIN: Duration = Duration::from_secs(2);
/// More than this is not read: the file is somebody else's.
const MAX_LEN: u64 = 4 << 30;

const HEAD: &[u8] = b"kcpq values 1\n";
/// Bytes before a frame, and behind all of them.
const TIMES: usize = 16;
const END: usize = 12;

/// A value of the server's last life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) frame: Bytes,
    pub(crate) age: Duration,
    /// For how long it is still worth something, if not always.
    pub(crate) left: Option<Duration>,
}

/// The thread that keeps the file. It ends when the shard has.
#[derive(Debug)]
pub(crate) struct Values {
    thread: Option<JoinHandle<()>>,
    /// How often the file could not be written.
    pub(crate) failures: Arc<AtomicU64>,
}

/// How a shard tells that its values, which are those of all shards, have changed.
pub(crate) struct Reporter {
    changes: Sender<Change>,
    told: Arc<AtomicBool>,
    /// What the broker had counted when that was last looked at.
    seen: u64,
}

/// What the thread hears.
pub(crate) struct Changes {
    received: Receiver<Change>,
    /// One has been told that the thread has not looked at yet.
    told: Arc<AtomicBool>,
}

enum Change {
    /// There are other values than before.
    Some,
    /// The shard ends, with these.
    Last(Vec<KeptView>),
}

/// The two ends of what a shard, whose broker has just been given what was left, tells of its values.
pub(crate) fn channel(broker: &Broker<Client>) -> (Reporter, Changes) {
    let (changes, received) = mpsc::channel();
    let told = Arc::new(AtomicBool::new(false));
    (Reporter { changes, told: Arc::clone(&told), seen: broker.kept_changes() }, Changes { received, told })
}

impl Values {
    /// Begins to keep `file`, with the values of a shard.
    ///
    /// # Errors
    /// The system's, which starts no thread.
    pub(crate) fn start(file: PathBuf, shard: Handle, changes: Changes) -> io::Result<Self> {
        let failures = Arc::new(AtomicU64::new(0));
        let keeper = Keeper { file, shard, changes, failing: false, failures: Arc::clone(&failures) };
        let thread = thread::Builder::new().name("kcpq-values".into()).spawn(move || keeper.run())?;
        Ok(Self { thread: Some(thread), failures })
    }
}

/// Waits until what the shard had at its end is written.
impl Drop for Values {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Reporter {
    /// Tells if there are other values than before.
    pub(crate) fn look_at(&mut self, broker: &Broker<Client>) {
        let changes = broker.kept_changes();
        if changes != self.seen {
            self.seen = changes;
            if !self.told.swap(true, Ordering::AcqRel) {
                // It lives as long as this.
                let _ = self.changes.send(Change::Some);
            }
        }
    }

    /// Tells what there is at the end.
    pub(crate) fn finish(mut self, broker: &Broker<Client>) {
        self.look_at(broker);
        let (mut all, mut next) = (Vec::new(), Some(KeptCursor::default()));
        while let Some(from) = next {
            let page = broker.view_kept(&from, PLACES);
            all.extend(page.items);
            next = page.next;
        }
        let _ = self.changes.send(Change::Last(all));
    }
}

struct Keeper {
    file: PathBuf,
    shard: Handle,
    changes: Changes,
    /// It could not be written the last time, which was told.
    failing: bool,
    failures: Arc<AtomicU64>,
}

impl Keeper {
    fn run(mut self) {
        let mut pause = SETTLES;
        while let Some(change) = self.next() {
            let last = match change {
                Change::Last(values) => Some(values),
                // Nothing else comes meanwhile but what is there at the end.
                Change::Some => match self.changes.received.recv_timeout(pause) {
                    Ok(Change::Last(values)) => Some(values),
                    _ => None,
                },
            };
            self.changes.told.store(false, Ordering::Release);
            let begun = Instant::now();
            if let Some(values) = last {
                return self.write(&values);
            }
            // A shard that has ended has told its last ones, or has failed: what is written then is what it had before.
            if let Some(values) = kept(&self.shard) {
                self.write(&values);
            }
            pause = SETTLES.max(begun.elapsed() * PAUSES);
        }
    }

    /// What there is to write, or to write again; `None` at the end.
    fn next(&self) -> Option<Change> {
        if !self.failing {
            return self.changes.received.recv().ok();
        }
        match self.changes.received.recv_timeout(TRIED_AGAIN) {
            Err(RecvTimeoutError::Timeout) => Some(Change::Some),
            change => change.ok(),
        }
    }

    fn write(&mut self, values: &[KeptView]) {
        let file = self.file.display();
        match replace(&self.file, &encode(values, SystemTime::now()), true) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(%file, "the last values of subjects are written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if !self.failing {
                    self.failing = true;
                    tracing::error!(
                        %error, %file,
                        "cannot write the last values of subjects: until it works what has changed would not outlive the server"
                    );
                }
            }
        }
    }
}

// --- the file ---

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn encode(values: &[KeptView], now: SystemTime) -> Vec<u8> {
    let now = millis(now);
    let mut bytes = HEAD.to_vec();
    for value in values {
        let lapses = value.left.map_or(0, |left| now.saturating_add(left.as_millis()).max(1));
        bytes.extend(now.saturating_sub(value.age.as_millis()).to_be_bytes());
        bytes.extend(lapses.to_be_bytes());
        bytes.extend_from_slice(&value.frame);
    }
    bytes.extend((values.len() as u64).to_be_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_be_bytes());
    bytes
}

/// What a file holds, but for what has lapsed.
///
/// # Errors
/// For people: why it is none.
fn decode(bytes: &Bytes, now: SystemTime) -> Result<Vec<Left>, &'static str> {
    let content = bytes.strip_prefix(HEAD).ok_or("it is something else, or of another version")?;
    let whole = "it is not whole";
    let (content, end) = content.split_last_chunk::<END>().ok_or(whole)?;
    let [count @ .., a, b, c, d] = *end;
    if crc32fast::hash(&bytes[..bytes.len() - 4]) != u32::from_be_bytes([a, b, c, d]) {
        return Err(whole);
    }
    let now = millis(now);
    let (mut rest, mut all, mut number) = (content, Vec::new(), 0_u64);
    while let Some((times, frames)) = rest.split_first_chunk::<TIMES>() {
        let len = Frame::parse(frames, &Limits::NONE).map_err(|_| whole)?.encoded_len();
        let (frame, behind) = frames.split_at_checked(len).ok_or(whole)?;
        let [since, lapses] = [0, 8].map(|at| times[at..].first_chunk().map_or(0, |time| u64::from_be_bytes(*time)));
        if lapses == 0 || lapses > now {
            all.push(Left {
                frame: Bytes::copy_from_slice(frame),
                age: Duration::from_millis(now.saturating_sub(since)),
                left: (lapses > 0).then(|| Duration::from_millis(lapses - now)),
            });
        }
        (rest, number) = (behind, number + 1);
    }
    if rest.is_empty() && number.to_be_bytes() == count { Ok(all) } else { Err(whole) }
}

/// What the last life has left, and whether the file may be written: one that cannot be read, and cannot be put aside
/// either, stays as it is.
pub(crate) fn read(file: &Path) -> (Vec<Left>, bool) {
    let read = || -> io::Result<Option<Bytes>> {
        let found = match File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let mut bytes = Vec::new();
        found.take(MAX_LEN).read_to_end(&mut bytes)?;
        Ok(Some(bytes.into()))
    };
    let why = match read() {
        Ok(None) => return (Vec::new(), true),
        Ok(Some(bytes)) => match decode(&bytes, SystemTime::now()) {
            Ok(left) => return (left, true),
            Err(why) => why.to_owned(),
        },
        Err(error) => error.to_string(),
    };
    let file_name = file.display();
    tracing::error!(file = %file_name, "cannot read the last values of subjects: {why}; the server begins without");
    (Vec::new(), put_aside(file))
}

/// Keeps a file that is about to be overwritten, under another name. False if that cannot be done.
pub(crate) fn put_aside(file: &Path) -> bool {
    let aside = with_suffix(file, &format!(".aside-{}", millis(SystemTime::now())));
    match fs::rename(file, &aside) {
        Ok(()) => {
            tracing::warn!(file = %aside.display(), "the file of last values is kept there");
            true
        }
        Err(error) => {
            let file = file.display();
            tracing::error!(%error, %file, "cannot put the file of last values aside: it stays, and none is written");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kcpq_core::Instant as Moment;
    use kcpq_core::broker::Config;

    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn later(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(seconds)
    }

    fn frame(subject: &str, payload: &[u8]) -> Bytes {
        let frame = Frame { command: kcpq_core::frame::command::MSG, subject: subject.as_bytes(), payload };
        let mut bytes = vec![0; frame.encoded_len()];
        frame.encode(&mut bytes).unwrap();
        bytes.into()
    }

    /// Values as a broker shows them: one that is always worth something, one for a while.
    fn values() -> Vec<KeptView> {
        let mut broker = Broker::<SocketAddr>::new(Config::default(), 1);
        let (age, long) = (kcpq_core::Duration::from_secs(5), frame("b", &[7; 5_000]));
        broker.restore(Moment::ZERO, &frame("a.b", b"1"), age, None).unwrap();
        broker.restore(Moment::ZERO, &long, age, Some(kcpq_core::Duration::from_secs(60))).unwrap();
        broker.view_kept(&KeptCursor::default(), 10).items
    }

    #[test]
    fn what_is_written_is_read_but_for_what_has_lapsed_meanwhile() {
        let values = values();
        let bytes = Bytes::from(encode(&values, later(100)));
        let left = decode(&bytes, later(110)).unwrap();
        let seconds = |left: &Left| (left.age.as_secs(), left.left.map(|left| left.as_secs()));
        assert_eq!(left.iter().map(seconds).collect::<Vec<_>>(), [(15, None), (15, Some(50))]);
        assert!(left.iter().zip(&values).all(|(left, value)| left.frame == value.frame));
        assert_eq!(decode(&bytes, later(160)).unwrap().len(), 1);
        // A clock that was set back makes them young.
        assert_eq!(decode(&bytes, later(50)).unwrap()[0].age, Duration::ZERO);
        assert_eq!(decode(&encode(&[], NOW).into(), NOW), Ok(Vec::new()));
    }

    #[test]
    fn what_is_damaged_anywhere_is_none() {
        let bytes = encode(&values()[..1], later(100));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged.into(), NOW).is_err(), "byte {at}");
            assert!(decode(&bytes[..at].to_vec().into(), NOW).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_put_aside() {
        let folder = std::env::temp_dir().join(format!("kcpq-values-{}", std::process::id()));
        let file = folder.join("values");
        assert_eq!(read(&file), (Vec::new(), true));
        replace(&file, b"[Unit]", true).unwrap();
        assert_eq!(read(&file), (Vec::new(), true));
        let kept: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(kept.len() == 1 && fs::read(&kept[0]).unwrap() == b"[Unit]", "{kept:?}");
        // One that cannot be put aside is not written over: here it is a folder that is not empty, in its place.
        replace(&file, &encode(&values(), SystemTime::now()), true).unwrap();
        let (left, may_write) = read(&file);
        assert_eq!((left.len(), may_write), (2, true));
        assert!(!put_aside(&folder.join("none")));
        fs::remove_dir_all(&folder).unwrap();
    }
}
