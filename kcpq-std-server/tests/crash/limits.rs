//! What the system does not give: room on a disk, files, memory.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use futures_lite::future::poll_once;
use kcpq_smol::Client;

use crate::child;
use crate::load::{message, number, quick};
use crate::measured;
use crate::server::{Node, get};
use crate::support::folder::Folder;
use crate::support::process::Process;
use crate::support::program::kcpq_after;
use crate::support::wait::{LIMIT, soon, until};

/// A message comes back.
async fn serves(client: &Client, text: &str) {
    let mut received = client.subscribe("serves").without_kept().await.unwrap();
    client.publish("serves", text).await.unwrap();
    assert_eq!(soon("the message", received.next()).await.unwrap().text(), text);
}

/// As with `LimitFSIZE=`, or a quota: the system sends a signal that would kill.
#[test]
fn a_log_that_may_not_grow_costs_lines_of_the_log_only() {
    const ALLOWED: u64 = 4 << 10;
    let folder = Folder::new("crash-log");
    let log = folder.0.join("log");
    // Blocks of 512 bytes; what is behind the shell's own limit is the server's.
    let first = format!("ulimit -f {}; exec 2>{};", ALLOWED / 512, log.display());
    let node = Node::start_after(&first, &["--register", "none", "--log-level", "debug"]);
    smol::block_on(async {
        until("the log is full", || {
            let opened = async {
                let client = quick().connect(&*node.addr).await.unwrap();
                client.close().await.unwrap();
            };
            futures_lite::future::block_on(opened);
            fs::metadata(&log).unwrap().len() == ALLOWED
        })
        .await;
        for text in ["1", "2", "3"] {
            serves(&quick().connect(&*node.addr).await.unwrap(), text).await;
        }
    });
    assert_eq!(fs::metadata(&log).unwrap().len(), ALLOWED);
    node.end();
}

/// A shell script that puts a small disk at `$1` and then becomes what follows.
const SMALL_DISK: &str = r#"mount -t tmpfs -o size=256k none "$1" || exit 77; shift; exec "$@""#;

#[test]
fn a_full_disk_keeps_the_last_values_as_they_were_and_they_are_written_when_there_is_room() {
    let folder = Folder::new("crash-disk");
    let disk = folder.0.to_str().unwrap();
    let may = Command::new("unshare").args(["-rm", "sh", "-c", SMALL_DISK, "sh", disk, "true"]).output();
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: a disk of its own cannot be had here: {may:?}");
        return;
    }
    let file = folder.0.join("values");
    let args = ["--register", "none", "--kept-file", file.to_str().unwrap()];
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", SMALL_DISK, "sh", disk]).arg(kcpq_after("").get_program());
    command.args(kcpq_after("").get_args());
    let mut node = Node::start_as("", &args, &mut command);
    // That disk, as the server has it.
    let there = |name: &str| PathBuf::from(format!("/proc/{}/root{disk}/{name}", node.process().id()));
    let has = |text: &str| {
        fs::read(there("values")).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    let copy = Folder::new("crash-disk-copy");
    smol::block_on(async {
        let client = quick().connect(&*node.addr).await.unwrap();
        client.publish("state", "the first").retain().await.unwrap();
        until("it is written", || has("the first")).await;
        // All that is left of it is somebody else's.
        let full = fs::write(there("filler"), vec![0; 1 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        client.publish("state", "the second").retain().await.unwrap();
        node.process().expect_logged("cannot write the last values of subjects", LIMIT);
        until("it counts that", || node.counted().of("last_values_write_failures_total") > 0).await;
        assert!(has("the first") && !has("the second"), "what was written before is whole");
        assert!(!there("values.new").exists(), "and nothing is left of what was begun");
        serves(&client, "while the disk is full").await;
        // There is room again, and nothing else changes.
        fs::remove_file(there("filler")).unwrap();
        until("it is written", || has("the second")).await;
        node.process().expect_logged("the last values of subjects are written again", LIMIT);
    });
    fs::copy(there("values"), copy.0.join("values")).unwrap();
    node.kill();
    // What was on the disk when it was killed is what the next one begins with.
    let next = Node::start(&["--register", "none", "--kept-file", copy.0.join("values").to_str().unwrap()]);
    smol::block_on(async {
        let client = quick().connect(&*next.addr).await.unwrap();
        let mut values = client.subscribe("state").await.unwrap();
        let value = soon("the value", values.next()).await.unwrap();
        assert_eq!((&*value.text(), value.is_kept()), ("the second", true));
    });
    next.end();
}

/// Sets a limit of a running process, as prlimit(1) calls it, and leaves the hard one.
fn limit(process: &Process, what: &str, most: u64) {
    let set = Command::new("prlimit").args(["--pid", &process.id().to_string(), &format!("--{what}={most}:")]).status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit (util-linux)");
}

#[test]
fn without_files_it_serves_on_and_what_needs_one_comes_later() {
    let folder = Folder::new("crash-files");
    let file = folder.0.join("values");
    let node = Node::start(&["--register", "none", "--kept-file", file.to_str().unwrap()]);
    // It has these already.
    limit(node.process(), "nofile", 3);
    smol::block_on(async {
        let asked: Vec<_> = (0..3)
            .map(|_| {
                let http = node.http.clone();
                smol::unblock(move || get(&http, "/varz"))
            })
            .collect();
        node.process().expect_logged("no connections over HTTP for now", LIMIT);
        let client = quick().connect(&*node.addr).await.unwrap();
        client.publish("state", "kept").retain().await.unwrap();
        node.process().expect_logged("cannot write the last values of subjects", LIMIT);
        // Sessions need none.
        for text in ["1", "2", "3"] {
            serves(&quick().connect(&*node.addr).await.unwrap(), text).await;
        }
        assert!(!file.exists());
        limit(node.process(), "nofile", 1_024);
        for answer in asked {
            assert!(soon("an answer", answer).await.unwrap().contains("server_name"));
        }
        until("the values are written", || file.exists()).await;
    });
    node.end();
}

const MIB: u64 = 1 << 20;
/// For messages that wait, and for what has come.
const QUEUED: u64 = 32 * MIB;
const RECEIVED: u64 = 16 * MIB;
/// What the program takes beside that, and a few sessions (`scripts/abuse`).
const BESIDE: u64 = 96 * MIB;
const LIMITS: [&str; 8] =
    ["--register", "none", "--max-queued", "4M", "--max-queued-total", "33554432", "--max-received-total", "16777216"];

/// No more address space than what the configuration lets them have.
#[test]
fn memory_is_bounded_by_the_configuration_and_what_finds_none_is_counted() {
    let node = Node::start(&LIMITS);
    limit(node.process(), "as", node.status_kib("VmSize") * 1_024 + QUEUED + RECEIVED + BESIDE);
    stays_within_memory(node, "address space");
}

/// A control group of the kernel, as `MemoryMax=` and containers have it: who takes more in it is killed.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Where such groups can be made: the second version's, or the first one's.
    fn new(name: &str) -> Option<Self> {
        let parent = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"].map(PathBuf::from);
        let name = format!("{name}-{}", std::process::id());
        let has_memory =
            |group: &Self| group.0.join("memory.max").exists() || group.0.join("memory.limit_in_bytes").exists();
        parent.into_iter().find_map(|parent| {
            let group = Self(parent.join(&name));
            fs::create_dir(&group.0).ok()?;
            Some(group).filter(has_memory)
        })
    }

    /// What a shell does to be in it.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs;", self.0.display())
    }

    fn read(&self, second: &str, first: &str) -> u64 {
        let text = fs::read_to_string(self.0.join(second)).or_else(|_| fs::read_to_string(self.0.join(first)));
        text.unwrap().trim().parse().unwrap()
    }

    fn used(&self) -> u64 {
        self.read("memory.current", "memory.usage_in_bytes")
    }

    fn limit(&self, most: u64) {
        let file =
            [self.0.join("memory.max"), self.0.join("memory.limit_in_bytes")].into_iter().find(|file| file.exists());
        fs::write(file.unwrap(), most.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The same for pages that are in use, which the kernel would kill for.
#[test]
fn memory_stays_within_that_of_a_control_group() {
    let Some(group) = Cgroup::new("kcpq-crash") else {
        println!("skipped: no control group with memory can be made here");
        return;
    };
    let node = Node::start_after(&group.enter(), &LIMITS);
    group.limit(group.used() + QUEUED + RECEIVED);
    stays_within_memory(node, "control group");
}

/// Many stuck subscribers and a fast publisher.
fn stays_within_memory(node: Node, bounded_by: &str) {
    const STUCK: u64 = 16;
    const MESSAGES: u64 = 5_000;
    const SIZE: usize = 16 << 10;
    let stuck: Vec<_> = (0..STUCK).map(|_| child::Subscriber::start(&node.addr, "load.*")).collect();
    stuck.iter().for_each(|stuck| stuck.signal("-STOP"));
    smol::block_on(async {
        let client = quick().connect(&*node.addr).await.unwrap();
        let mut reads = client.subscribe("load.*").await.unwrap();
        let mut next = 0;
        for sent in 0..MESSAGES {
            client.publish("load.0", message(sent, SIZE)).await.unwrap();
            while let Some(message) = poll_once(reads.next()).await.flatten() {
                assert_eq!(number(&message.text()), next);
                next += 1;
            }
            // Who reads what it gets misses nothing, however many do not.
            while sent.saturating_sub(next) > 16 {
                assert_eq!(number(&soon("a message", reads.next()).await.unwrap().text()), next);
                next += 1;
            }
        }
        for expected in next..MESSAGES {
            assert_eq!(number(&soon("a message", reads.next()).await.unwrap().text()), expected);
        }
        let most = node.status_kib("VmHWM") * 1_024;
        assert!(most < QUEUED + RECEIVED + BESIDE, "{} MiB", most / MIB);
        stuck.iter().for_each(|stuck| stuck.signal("-CONT"));
        // What waits for them they still get.
        until("nothing waits any more", || node.counted().of("queued_bytes") == 0).await;
        let counted = node.counted();
        let not_queued = counted.dropped("slow_consumer") + counted.dropped("memory");
        assert_eq!(counted.queued() + not_queued, MESSAGES * (STUCK + 1), "{counted:?}");
        assert!(counted.dropped("memory") + counted.dropped("stuck") > 0, "{counted:?}");
        assert_eq!(counted.dropped_otherwise(&["slow_consumer", "memory", "stuck"]), 0, "{counted:?}");
        let came = counted.queued() - MESSAGES - counted.dropped("stuck");
        until("all that has come is printed", || stuck.iter().map(child::Subscriber::printed).sum::<u64>() == came)
            .await;
        let printed: u64 = stuck.into_iter().map(|stuck| stuck.end("-TERM").len() as u64).sum();
        assert_eq!(printed + MESSAGES + counted.dropped("stuck"), counted.queued(), "{counted:?}");
        let figures =
            format!("{} MiB at most; {not_queued} messages of {} found no room", most / MIB, MESSAGES * (STUCK + 1));
        measured(&format!("memory limited, {bounded_by}"), &figures);
    });
    node.end();
}
