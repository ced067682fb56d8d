//! Three kcpq servers on a cluster of three NATS servers, all processes of their own, each of which is killed or hangs under load
//! and comes back. Clients of both kinds publish numbered messages at all servers and hear them at all servers:
//!
//! * none comes twice, nor out of the order of its publisher and lane; but what a NATS server had been given when it began to hang
//!   it hands on when it goes on, after what its publishers have said at others since;
//! * what is missing was under way when something was killed, or was published before all were back. Between servers that had
//!   nothing to do with it, and at the server of its publisher as long as that lives, nothing is missing;
//! * all are back by themselves.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcpq_smol::{Backoff, Client, Lane, Message};
use serde_json::Value;
use smol::{Task, Timer};
use support::folder::Folder;
use support::go;
use support::nats::{self, Nats};
use support::port;
use support::process::Process;
use support::program::kcpq;
use support::wait::{LIMIT, soon, until};

const SERVERS: usize = 3;
const LANES: [Lane; 2] = [Lane::NORMAL, Lane::URGENT];
/// Messages of an original client in each round of NATS servers.
const OF_ORIGINAL: u32 = 100;

/// A kcpq server, on ports that it has again when it is back.
struct Node {
    process: Option<Process>,
    addr: String,
    http: String,
    args: Vec<String>,
}

impl Node {
    fn start(own: usize, cluster: &[Nats], folder: &Folder) -> Self {
        // Its own NATS server first.
        let urls: Vec<String> = (0..cluster.len()).map(|turn| cluster[(own + turn) % cluster.len()].url()).collect();
        let register = folder.0.join(format!("register-{own}")).to_str().unwrap().to_owned();
        let args = ["--nats", &urls.join(","), "--register", &register].map(str::to_owned).into();
        let mut node =
            Self { process: None, addr: port::free_addr().to_string(), http: port::free_addr().to_string(), args };
        node.restart();
        node
    }

    fn restart(&mut self) {
        let mut command = kcpq();
        command.args(["serve", "-l", &self.addr, "--http", &self.http]).args(&self.args);
        let mut process = Process::spawn(&mut command);
        self.addr = process.expect_line("listening on ", LIMIT);
        self.http = process.expect_line("monitoring on http://", LIMIT);
        self.process = Some(process);
    }

    /// What it says of its backbone; `None` while it does not answer.
    fn backbone(&self) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.http).ok()?;
        stream.write_all(format!("GET /varz HTTP/1.1\r\nHost: {}\r\n\r\n", self.http).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let document: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        Some(document["backbone"].clone())
    }

    /// The NATS server that it stands on, if it does.
    fn stands_on(&self) -> Option<String> {
        let backbone = self.backbone().filter(|backbone| backbone["connected"] == true)?;
        backbone["server"].as_str().map(str::to_owned)
    }

    async fn client(&self) -> Client {
        let often = Backoff { base: Duration::from_millis(100), cap: Duration::from_millis(500) };
        let builder = Client::builder().timeout(LIMIT).heartbeat(Duration::from_millis(500));
        builder.reconnect(Some(often)).connect(&*self.addr).await.unwrap()
    }
}

/// What a publisher sends in a lane: the server that it is at, and the lane.
type Stream = (usize, u8);

fn streams() -> impl Iterator<Item = Stream> {
    (0..SERVERS).flat_map(|server| LANES.map(|lane| (server, lane.number())))
}

/// What a subscriber has heard.
#[derive(Debug, Default)]
struct Heard {
    /// Of each publisher and lane, in the order in which it came.
    numbers: BTreeMap<Stream, Vec<u32>>,
    /// Probes: of which publisher, in which round.
    probes: BTreeSet<(usize, u32)>,
    /// Of an original client, by its subject.
    original: BTreeMap<String, Vec<u32>>,
}

impl Heard {
    fn take(&mut self, message: &Message) {
        let subject: Vec<&str> = message.subject().split('.').collect();
        let number = || message.text().parse::<u32>().unwrap();
        match subject[..] {
            ["load", "probe", server] => _ = self.probes.insert((server.parse().unwrap(), number())),
            ["load", "original", _] => {
                let number = u64::from_be_bytes(*message.payload().first_chunk().unwrap());
                self.original.entry(message.subject().into()).or_default().push(number.try_into().unwrap());
            }
            ["load", server, lane] => {
                let stream = (server.parse().unwrap(), lane.parse().unwrap());
                self.numbers.entry(stream).or_default().push(number());
            }
            _ => panic!("{message:?}"),
        }
    }

    /// The number behind the last one.
    fn next(&self, stream: Stream) -> u32 {
        self.numbers.get(&stream).and_then(|numbers| numbers.last()).map_or(0, |last| last + 1)
    }
}

/// From here to there messages may be missing, on their way from one of these servers or to one.
struct Outage {
    what: String,
    affected: BTreeSet<usize>,
    /// At the server itself, as well.
    at_home: bool,
    /// A NATS server hung, and went on.
    hung: bool,
    from: BTreeMap<Stream, u32>,
    to: BTreeMap<Stream, u32>,
}

impl Outage {
    /// It may have been given to a NATS server that hung.
    fn may_come_late(&self, stream: Stream, at: usize, number: u32) -> bool {
        self.hung && stream.0 != at && self.affected.contains(&stream.0) && self.excuses(stream, at, number)
    }

    fn excuses(&self, stream: Stream, at: usize, number: u32) -> bool {
        let is_concerned = match stream.0 == at {
            true => self.at_home && self.affected.contains(&at),
            false => self.affected.contains(&at) || self.affected.contains(&stream.0),
        };
        is_concerned && self.from[&stream] <= number && number < self.to[&stream]
    }
}

/// When what was done, in numbers of a publisher and lane.
fn shown(outages: &[Outage], stream: Stream) -> String {
    let one = |Outage { what, affected, from, to, .. }: &Outage| {
        format!("{what} at {}..{}, of {affected:?}", from[&stream], to[&stream])
    };
    outages.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The load, and who hears it.
struct Load {
    /// The next number of each publisher and lane.
    next: Arc<BTreeMap<Stream, AtomicU32>>,
    stopped: Arc<AtomicBool>,
    publishers: Vec<Client>,
    heard: Vec<Arc<Mutex<Heard>>>,
    tasks: Vec<Task<()>>,
}

impl Load {
    async fn start(nodes: &[Node]) -> Self {
        let next = Arc::new(streams().map(|stream| (stream, AtomicU32::new(0))).collect::<BTreeMap<_, _>>());
        let stopped = Arc::new(AtomicBool::new(false));
        let (mut publishers, mut heard, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        for node in nodes {
            let mut received = node.client().await.subscribe("load.>").await.unwrap();
            let of_this = Arc::new(Mutex::new(Heard::default()));
            heard.push(Arc::clone(&of_this));
            tasks.push(smol::spawn(async move {
                while let Some(message) = received.next().await {
                    of_this.lock().unwrap().take(&message);
                }
            }));
            publishers.push(node.client().await);
        }
        let mut load = Self { next, stopped, publishers, heard, tasks };
        load.probe(0).await;
        for (server, client) in load.publishers.iter().cloned().enumerate() {
            let (next, stopped) = (Arc::clone(&load.next), Arc::clone(&load.stopped));
            load.tasks.push(smol::spawn(async move {
                while !stopped.load(Relaxed) {
                    for lane in LANES {
                        let number = next[&(server, lane.number())].fetch_add(1, Relaxed);
                        let subject = format!("load.{server}.{}", lane.number());
                        client.publish(&subject, number.to_string()).lane(lane).await.unwrap();
                    }
                    Timer::after(Duration::from_millis(5)).await;
                }
            }));
        }
        load
    }

    /// Waits until everybody hears everybody, anew.
    async fn probe(&self, round: u32) {
        soon("everybody hears everybody", async {
            let all = |heard: &Arc<Mutex<Heard>>| {
                let heard = heard.lock().unwrap();
                (0..SERVERS).all(|server| heard.probes.contains(&(server, round)))
            };
            while !self.heard.iter().all(all) {
                for (server, client) in self.publishers.iter().enumerate() {
                    client.publish(&format!("load.probe.{server}"), round.to_string()).await.unwrap();
                }
                Timer::after(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Of each publisher and lane the number from which on somebody has not heard it.
    fn heard_by_all(&self) -> BTreeMap<Stream, u32> {
        let least = |stream| self.heard.iter().map(|heard| heard.lock().unwrap().next(stream)).min().unwrap();
        streams().map(|stream| (stream, least(stream))).collect()
    }

    fn published(&self) -> BTreeMap<Stream, u32> {
        self.next.iter().map(|(stream, next)| (*stream, next.load(Relaxed))).collect()
    }

    /// Waits until so many more were published by everybody, and heard by those at the same server.
    async fn go_on(&self, more: u32) {
        let before = self.published();
        let has_more = |stream: Stream| {
            let heard = self.heard[stream.0].lock().unwrap().next(stream);
            heard >= before[&stream] + more
        };
        until("the load goes on", || streams().all(has_more)).await;
    }
}

/// Of an original client, which publishes at a server.
struct Original {
    process: Process,
    subject: String,
    at: usize,
}

impl Original {
    fn start(nodes: &[Node], at: usize, round: u32) -> Option<Self> {
        let subject = format!("load.original.{round}");
        let count = OF_ORIGINAL.to_string();
        let mut command = Command::new(go::peer()?);
        command.args(["pub", "-s", &nodes[at].addr, "-subject", &subject, "-count", &count, "-rate", "200"]);
        Some(Self { process: Process::spawn(&mut command), subject, at })
    }
}

/// Something is done to it, until the servers that this concerns have noticed.
enum Blow {
    KillNats(usize),
    HangNats(usize),
    KillServer(usize),
}

#[cfg(unix)]
#[test]
fn each_server_dies_under_load_and_nothing_comes_twice_or_is_missing_without_reason() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("cluster");
    let mut cluster = nats::cluster(SERVERS);
    let mut nodes: Vec<Node> = (0..SERVERS).map(|own| Node::start(own, &cluster, &folder)).collect();
    smol::block_on(async {
        until("all stand on NATS", || nodes.iter().all(|node| node.stands_on().is_some())).await;
        let load = Load::start(&nodes).await;
        // An original client that listens, through all of it.
        let listener = go::peer().map(|peer| {
            let args = ["-subject", "original", "-reconnect", "-ping", "500ms", "-read-timeout", "2s"];
            let mut process = Process::spawn(Command::new(peer).args(["sub", "-s", &nodes[1].addr]).args(args));
            process.expect_line("subscribed", LIMIT);
            process
        });
        let (far, is_over) = (load.publishers[0].clone(), Arc::clone(&load.stopped));
        let sent_to_listener = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent_to_listener);
        let for_listener = smol::spawn(async move {
            while !is_over.load(Relaxed) {
                let number = counted.fetch_add(1, Relaxed);
                far.publish("original", go::message(number, 40)).await.unwrap();
                Timer::after(Duration::from_millis(10)).await;
            }
        });
        // As many of its messages may have been given to a NATS server that hung.
        let mut may_come_late_to_listener = 0;
        let kills = (0..SERVERS).flat_map(|which| [Blow::KillNats(which), Blow::KillServer(which)]);
        let mut outages = Vec::new();
        for (round, blow) in (1..).zip(kills.chain([Blow::HangNats(0)])) {
            load.go_on(20).await;
            let from = load.heard_by_all();
            let sent_before = sent_to_listener.load(Relaxed);
            let hung = matches!(blow, Blow::HangNats(_));
            let (what, affected, at_home) = match blow {
                Blow::KillNats(which) | Blow::HangNats(which) => {
                    let url = cluster[which].url();
                    let stand_there =
                        |index: &usize| nodes[*index].stands_on().is_none_or(|stands_on| stands_on == url);
                    let affected: BTreeSet<usize> = (0..SERVERS).filter(stand_there).collect();
                    let original = Original::start(&nodes, (which + 1) % SERVERS, round);
                    if hung {
                        cluster[which].signal("-STOP");
                    } else {
                        cluster[which].kill();
                    }
                    until("they stand on others", || {
                        nodes.iter().all(|node| node.stands_on().is_some_and(|stands_on| stands_on != url))
                    })
                    .await;
                    load.go_on(20).await;
                    if hung {
                        cluster[which].signal("-CONT");
                    } else {
                        cluster[which].restart();
                    }
                    if let Some(Original { process, subject, at }) = original {
                        assert!(process.wait(LIMIT).status.success());
                        // At its server nothing is missing.
                        until("all of the original's", || {
                            let heard = load.heard[at].lock().unwrap();
                            heard.original.get(&subject).is_some_and(|numbers| numbers.len() == OF_ORIGINAL as usize)
                        })
                        .await;
                    }
                    (format!("NATS server {which} {}", if hung { "hung" } else { "died" }), affected, false)
                }
                Blow::KillServer(which) => {
                    nodes[which].process = None;
                    let others: Vec<Stream> = streams().filter(|stream| stream.0 != which).collect();
                    let before = load.published();
                    until("the others go on", || {
                        let published = load.published();
                        others.iter().all(|stream| published[stream] > before[stream] + 20)
                    })
                    .await;
                    nodes[which].restart();
                    (format!("server {which} died"), BTreeSet::from([which]), true)
                }
            };
            until("all stand on NATS", || nodes.iter().all(|node| node.stands_on().is_some())).await;
            load.probe(round).await;
            if hung && affected.contains(&0) {
                may_come_late_to_listener += sent_to_listener.load(Relaxed) - sent_before;
            }
            outages.push(Outage { what, affected, at_home, hung, from, to: load.published() });
        }
        load.go_on(20).await;
        load.stopped.store(true, Relaxed);
        for_listener.await;
        let sent_to_listener = sent_to_listener.load(Relaxed);
        // The last ones come everywhere.
        let last = load.published();
        until("the last ones are heard", || load.heard_by_all() == last).await;
        for (at, heard) in load.heard.iter().enumerate() {
            let heard = heard.lock().unwrap();
            for stream in streams() {
                let numbers = &heard.numbers[&stream];
                let there: BTreeSet<u32> = numbers.iter().copied().collect();
                assert_eq!(there.len(), numbers.len(), "{stream:?} at {at}: twice: {}", shown(&outages, stream));
                let is_late = |number: u32| outages.iter().any(|outage| outage.may_come_late(stream, at, number));
                let in_time: Vec<u32> = numbers.iter().copied().filter(|number| !is_late(*number)).collect();
                let back = in_time.windows(2).find(|pair| pair[0] >= pair[1]);
                assert_eq!(back, None, "{stream:?} at {at}: out of order: {}", shown(&outages, stream));
                let missing = (0..last[&stream]).filter(|number| !there.contains(number));
                let strange: Vec<u32> = missing
                    .filter(|number| !outages.iter().any(|outage| outage.excuses(stream, at, *number)))
                    .collect();
                assert!(strange.is_empty(), "{stream:?} at {at}: missing {strange:?}: {}", shown(&outages, stream));
            }
            for (subject, numbers) in &heard.original {
                assert!(numbers.is_sorted_by(|a, b| a < b), "{subject} at {at}: {numbers:?}");
            }
        }
        if let Some(listener) = listener {
            listener.terminate();
            let output = listener.wait(LIMIT);
            let report = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{report}");
            let report: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
            for what in ["duplicated", "corrupt"] {
                assert_eq!(report[what], 0, "{report}");
            }
            let count = |what: &str| report[what].as_u64().unwrap();
            assert!(count("reordered") <= may_come_late_to_listener, "{report}: {}", shown(&outages, (0, 0)));
            assert!(count("received") > sent_to_listener / 4, "of {sent_to_listener}: {report}");
        }
    });
}
