//! What outlives the server: its secret, and the clients that it has sessions with, in a small file.
//!
//! A client that only listens would not notice a restart before its next heartbeat. So the server remembers where its
//! clients are, and tells them when it is back (PROTOCOL.md 4.6). The file is written by a thread of its own, beside the place
//! of the old one which it then takes: whatever happens meanwhile, one of the two is whole. Without it nothing but that
//! is missing, so what goes wrong with it stops nobody.
//!
//! ```text
//! kcpq register 1
//! secret 64 hexadecimal digits
//! session 16 hexadecimal digits, address of the client, address here or -, which of the server's addresses, if not the first
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use kcpq_core::broker::{Event, SessionId};
use kcpq_udp::Path;

use crate::peer::Client;
use crate::replace::replace;

/// What the last life of the server has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// None, if there was no file.
    pub(crate) secret: Option<[u8; 32]>,
    /// Clients with the names of their sessions.
    pub(crate) peers: Vec<(Client, u64)>,
}

/// A change is written after this time, with those that come meanwhile.
const SETTLES: Duration = Duration::from_millis(200);
/// What took long to write is not written again before so many times as long has passed.
const PAUSES: u32 = 20;
/// The file is written this often, changed or not, so that its age tells when the server was last alive.
const AT_LEAST: Duration = Duration::from_secs(30);
/// Of a file that is older than this no client is left: they have given up, or found another server.
const MAX_AGE: Duration = Duration::from_secs(180);
/// Those of the last life stay in the file for so long, unless they are back: until then the server may die again before they
/// were told.
const STAY: Duration = Duration::from_secs(10);
/// More than this is not read: the file is somebody else's.
const MAX_LEN: u64 = 64 << 20;

const HEAD: &str = "kcpq register 1";

/// The thread that keeps the file.
#[derive(Debug)]
pub(crate) struct Register {
    changes: Option<Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

/// How a shard tells of its sessions.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    shard: usize,
    changes: Sender<Change>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    There((usize, SessionId), Client, u64),
    Moved((usize, SessionId), Client),
    Gone((usize, SessionId)),
}

impl Register {
    /// Begins to keep `file`, for a server with this secret. `left` is who was there in its last life.
    ///
    /// # Errors
    /// The system's, which starts no thread.
    pub(crate) fn start(file: PathBuf, secret: [u8; 32], left: Vec<(Client, u64)>) -> io::Result<Self> {
        let (changes, received) = mpsc::channel();
        let stay_until = Instant::now() + STAY;
        let keeper = Keeper { file, secret, peers: HashMap::new(), left, stay_until, failing: false };
        let thread = std::thread::Builder::new().name("kcpq-register".into());
        let thread = thread.spawn(move || keeper.run(&received))?;
        Ok(Self { changes: Some(changes), thread: Some(thread) })
    }

    /// For a shard.
    pub(crate) fn reporter(&self, shard: usize) -> Option<Reporter> {
        Some(Reporter { shard, changes: self.changes.clone()? })
    }
}

/// Waits until what the shards have told last is written; they have ended.
impl Drop for Register {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Reporter {
    /// Tells of what concerns the register.
    pub(crate) fn tell(&self, event: &Event<Client>) {
        let key = |id| (self.shard, id);
        let change = match *event {
            Event::Greeted { id, peer, name: Some(name), .. } => Change::There(key(id), peer, name),
            Event::Moved { id, to, .. } => Change::Moved(key(id), to),
            Event::Closed { id, .. } => Change::Gone(key(id)),
            _ => return,
        };
        // It lives as long as all shards.
        let _ = self.changes.send(change);
    }
}

struct Keeper {
    file: PathBuf,
    secret: [u8; 32],
    peers: HashMap<(usize, SessionId), (Client, u64)>,
    /// Who was there in the last life, and may not know yet that it is over.
    left: Vec<(Client, u64)>,
    stay_until: Instant,
    /// It could not be written the last time, which was told.
    failing: bool,
}

impl Keeper {
    fn run(mut self, changes: &Receiver<Change>) {
        let mut pause = SETTLES.max(self.write() * PAUSES);
        loop {
            let mut ended = false;
            let mut due = Instant::now() + AT_LEAST;
            loop {
                match changes.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Ok(change) => {
                        if self.note(change) {
                            due = due.min(Instant::now() + pause);
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        ended = true;
                        break;
                    }
                }
            }
            pause = SETTLES.max(self.write() * PAUSES);
            if ended {
                return;
            }
        }
    }

    /// True if that changes the file.
    fn note(&mut self, change: Change) -> bool {
        match change {
            Change::There(key, client, name) => self.peers.insert(key, (client, name)) != Some((client, name)),
            Change::Moved(key, to) => {
                let known = self.peers.get_mut(&key);
                known.is_some_and(|(client, _)| std::mem::replace(client, to) != to)
            }
            Change::Gone(key) => self.peers.remove(&key).is_some(),
        }
    }

    /// Those of the last life that have no session in this one.
    fn still_left(&self) -> impl Iterator<Item = &(Client, u64)> {
        let back: HashSet<Client> = match self.left.is_empty() {
            true => HashSet::new(),
            false => self.peers.values().map(|(client, _)| *client).collect(),
        };
        self.left.iter().filter(move |(client, _)| !back.contains(client))
    }

    /// Writes the file, and returns how long that took.
    fn write(&mut self) -> Duration {
        let begun = Instant::now();
        if begun >= self.stay_until {
            self.left = Vec::new();
        }
        match replace(&self.file, text(&self.secret, self.peers.values().chain(self.still_left())).as_bytes(), false) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(
                    %error, file = %self.file.display(),
                    "cannot write the register of clients: after a restart those that only listen notice it late"
                );
            }
            Err(_) => {}
        }
        begun.elapsed()
    }
}

fn text<'p>(secret: &[u8; 32], peers: impl IntoIterator<Item = &'p (Client, u64)>) -> String {
    let mut text = format!("{HEAD}\nsecret ");
    for byte in secret {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    for (Client { path: Path { remote, local }, listener }, name) in peers {
        let local = local.map_or_else(|| "-".to_owned(), |local| local.to_string());
        let listener = if *listener == 0 { String::new() } else { format!(" {listener}") };
        let _ = writeln!(text, "session {name:016x} {remote} {local}{listener}");
    }
    text
}

/// Reads what the last life has left. What cannot be read is told, and is as if it was not there.
pub(crate) fn read(file: &FilePath) -> Left {
    let found = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Left::default(),
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "cannot read the register of clients");
            return Left::default();
        }
    };
    let (text, age) = match content(found) {
        Ok(content) => content,
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "cannot read the register of clients");
            return Left::default();
        }
    };
    let Some(mut left) = parse(&text) else {
        tracing::warn!(file = %file.display(), "this is no register of clients: it is replaced by a new one");
        return Left::default();
    };
    if age > MAX_AGE {
        left.peers.clear();
    }
    left
}

/// The text, and how long ago it was written.
fn content(file: File) -> io::Result<(String, Duration)> {
    let metadata = file.metadata()?;
    if metadata.len() > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    // A clock that was set back makes it young.
    let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    Ok((io::read_to_string(file)?, age.unwrap_or_default()))
}

/// `None` if it is something else. A line that was cut short or makes no sense is left out.
fn parse(text: &str) -> Option<Left> {
    let mut lines = text.lines();
    lines.next().filter(|line| *line == HEAD)?;
    let digits = lines.next()?.strip_prefix("secret ")?.as_bytes();
    let mut secret = [0; 32];
    if digits.len() != 2 * secret.len() {
        return None;
    }
    for (byte, digits) in secret.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let peers = lines.filter_map(|line| {
        let mut words = line.strip_prefix("session ")?.split(' ');
        let name = u64::from_str_radix(words.next()?, 16).ok()?;
        let remote: SocketAddr = words.next()?.parse().ok()?;
        let local = match words.next()? {
            "-" => None,
            local => Some(local.parse().ok()?),
        };
        let listener = words.next().map_or(Ok(0), str::parse).ok()?;
        Some((Client { path: Path { remote, local }, listener }, name))
    });
    Some(Left { secret: Some(secret), peers: peers.collect() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn clients() -> Vec<(Client, u64)> {
        let client = |remote: &str, local: Option<&str>, listener| {
            let path = Path { remote: remote.parse().unwrap(), local: local.map(|local| local.parse().unwrap()) };
            Client { path, listener }
        };
        vec![
            (client("192.0.2.1:5000", Some("198.51.100.7"), 0), 0x0123_4567_89ab_cdef),
            (client("[2001:db8::1]:5001", None, 1), 7),
            (client("[fe80::1%3]:5002", Some("fe80::2"), 2), u64::MAX),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let (secret, peers) = ([0xa5; 32], clients());
        let text = text(&secret, &peers);
        assert_eq!(parse(&text), Some(Left { secret: Some(secret), peers }));
    }

    #[test]
    fn what_makes_no_sense_is_left_out_and_what_is_something_else_is_not_taken() {
        let whole = text(&[1; 32], &clients());
        assert_eq!(parse(&whole.replace("[2001:db8::1]:5001", "nowhere")).unwrap().peers.len(), 2);
        let cut = parse(&whole[..whole.len() - 5]).unwrap();
        assert!(cut.peers.len() >= 2);
        for other in ["", HEAD, "kcpq register 2\n", "[Unit]\n", &whole.replacen("secret 01", "secret xx", 1)] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_new_file_takes_the_place_of_the_old_one_and_is_nobody_elses() {
        let folder = std::env::temp_dir().join(format!("kcpq-register-{}", std::process::id()));
        let file = folder.join("deeper").join("register");
        replace(&file, b"one", false).unwrap();
        replace(&file, text(&[3; 32], &clients()).as_bytes(), false).unwrap();
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        let left = read(&file);
        assert_eq!((left.secret, left.peers), (Some([3; 32]), clients()));
        let old = SystemTime::now() - MAX_AGE - Duration::from_secs(1);
        File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        let left = read(&file);
        assert_eq!((left.secret, left.peers), (Some([3; 32]), Vec::new()), "who was there has given up by now");
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read(&file), Left::default());
    }

    #[test]
    fn a_server_that_dies_again_at_once_forgets_nobody_who_is_not_back() {
        let folder = std::env::temp_dir().join(format!("kcpq-register-again-{}", std::process::id()));
        let file = folder.join("register");
        let mut peers = clients();
        let mut keeper = Keeper {
            file: file.clone(),
            secret: [3; 32],
            peers: HashMap::new(),
            left: peers.clone(),
            stay_until: Instant::now() + STAY,
            failing: false,
        };
        keeper.write();
        assert_eq!(read(&file).peers, peers, "nobody was told yet");
        peers[0].1 = 99;
        keeper.peers.insert((0, "0.1".parse().unwrap()), peers[0]);
        keeper.write();
        assert_eq!(read(&file).peers, peers, "one is back, under a new name");
        keeper.stay_until = Instant::now();
        keeper.write();
        assert_eq!(read(&file).peers, peers[..1], "the others had their time");
        fs::remove_dir_all(&folder).unwrap();
    }
}
