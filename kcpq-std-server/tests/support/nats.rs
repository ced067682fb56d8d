//! A NATS server, and a client of it that speaks the protocol by hand: nothing of it is shared with the server's.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::port;
use super::process::Process;
use super::wait::LIMIT;

/// True if there is a nats-server; otherwise a line says that the test skips itself, unless it must not.
///
/// # Panics
///
/// If it must not, in CI.
pub(crate) fn is_there() -> bool {
    let found = Command::new("nats-server").arg("--version").output().is_ok();
    assert!(found || std::env::var_os("KCPQ_REQUIRE_NATS").is_none(), "nats-server is not installed");
    if !found {
        eprintln!("skipped: nats-server is not installed");
    }
    found
}

/// A running NATS server.
#[derive(Debug)]
pub(crate) struct Nats {
    pub(crate) port: u16,
    /// Where it lets leaf nodes in, if it does.
    pub(crate) leaf_port: Option<u16>,
    process: Option<Process>,
    args: Vec<String>,
}

impl Nats {
    /// Starts one on a port of its own.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_at(port::free(), args)
    }

    /// Starts one there, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub(crate) fn start_at(port: u16, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut nats = Self { port, leaf_port: None, process: None, args };
        nats.restart();
        nats
    }

    /// Starts one that lets leaf nodes in, with what else the section for these says, and other sections. Its configuration is in a
    /// folder.
    pub(crate) fn with_leafs(folder: &Folder, section: &str, others: &str, args: &[&str]) -> Self {
        let (port, leaf_port) = (port::free(), port::free());
        let text = format!("leafnodes {{ host: 127.0.0.1, port: {leaf_port}, {section} }}\n{others}\n");
        let file = folder.write(&format!("nats-{port}.conf"), &text);
        let file = Path::to_str(&file).expect("a path of text").to_owned();
        let mut nats = Self::start_at(port, &[args, &["-c", &file]].concat());
        nats.leaf_port = Some(leaf_port);
        nats
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub(crate) fn restart(&mut self) {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]).args(&self.args);
        self.process = Some(Process::spawn(&mut command));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < LIMIT, "nats-server does not listen: {:?}", self.args);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// True unless it was killed.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Sends it a signal, named as for the command `kill`.
    pub(crate) fn signal(&self, signal: &str) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it lets leaf nodes in.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub(crate) fn leaf_url(&self) -> String {
        format!("nats-leaf://127.0.0.1:{}", self.leaf_port.expect("a port for leaf nodes"))
    }

    /// A client of it.
    pub(crate) fn client(&self) -> NatsClient {
        NatsClient::connect(self.port, "")
    }
}

/// Servers of one cluster.
///
/// # Panics
///
/// If they do not find each other.
pub(crate) fn cluster(count: usize) -> Vec<Nats> {
    cluster_by(count, Nats::start)
}

/// The same of servers that are started in this way, which is given what makes a cluster of them.
///
/// # Panics
///
/// If they do not find each other.
pub(crate) fn cluster_by(count: usize, start: impl Fn(&[&str]) -> Nats) -> Vec<Nats> {
    let ports: Vec<u16> = (0..count).map(|_| port::free()).collect();
    let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let routes = routes.join(",");
    let start = |port: &u16| {
        start(&["--cluster_name", "test", "--cluster", &format!("nats://127.0.0.1:{port}"), "--routes", &routes])
    };
    let all: Vec<Nats> = ports.iter().map(start).collect();
    // Each hears what is said at any.
    for (index, from) in all.iter().enumerate() {
        for to in &all {
            let (mut listener, mut speaker) = (to.client(), from.client());
            let subject = format!("cluster.{index}.{}", to.port);
            listener.subscribe(&subject, None);
            let begun = Instant::now();
            while listener.try_next(Duration::from_millis(20)).is_none() {
                assert!(begun.elapsed() < LIMIT, "no cluster");
                speaker.publish(&subject, None, "x");
                speaker.flush();
            }
        }
    }
    all
}

/// A message that came from NATS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    /// As it came, `NATS/1.0` and lines.
    pub(crate) headers: String,
    pub(crate) text: String,
}

/// A client that speaks NATS by hand.
#[derive(Debug)]
pub(crate) struct NatsClient {
    stream: BufReader<TcpStream>,
    heard: VecDeque<Heard>,
    sids: u32,
}

impl NatsClient {
    /// Connects, with what else CONNECT is to say.
    ///
    /// # Panics
    ///
    /// If it is not let in.
    pub(crate) fn connect(port: u16, more: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("NATS");
        stream.set_nodelay(true).expect("no delay");
        let mut client = Self { stream: BufReader::new(stream), heard: VecDeque::new(), sids: 0 };
        let mut info = String::new();
        client.stream.read_line(&mut info).expect("INFO");
        assert!(info.starts_with("INFO "), "{info}");
        client.write(&format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1{more}}}\r\n"
        ));
        client.flush();
        client
    }

    fn write(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("NATS takes it");
    }

    /// Subscribes, and waits until the server has it.
    pub(crate) fn subscribe(&mut self, subject: &str, group: Option<&str>) {
        self.sids += 1;
        let line = format!("SUB {subject} {} {}\r\n", group.unwrap_or_default(), self.sids);
        self.write(&line);
        self.flush();
    }

    /// Ends the subscription that was made last, and forgets what came.
    pub(crate) fn unsubscribe(&mut self) {
        let line = format!("UNSUB {}\r\n", self.sids);
        self.write(&line);
        self.flush();
        self.heard.clear();
    }

    pub(crate) fn publish(&mut self, subject: &str, reply: Option<&str>, text: &str) {
        self.write(&format!("PUB {subject} {} {}\r\n{text}\r\n", reply.unwrap_or_default(), text.len()));
    }

    /// With headers, a line each.
    pub(crate) fn publish_with(&mut self, subject: &str, headers: &str, text: &str) {
        let headers = format!("NATS/1.0\r\n{headers}\r\n");
        let (len, all) = (headers.len(), headers.len() + text.len());
        self.write(&format!("HPUB {subject} {len} {all}\r\n{headers}{text}\r\n"));
    }

    /// Waits until the server has done all of it.
    ///
    /// # Panics
    ///
    /// If it says something else.
    pub(crate) fn flush(&mut self) {
        self.write("PING\r\n");
        self.stream.get_mut().set_read_timeout(Some(LIMIT)).expect("a limit");
        while self.read().expect("NATS answers") != "PONG" {}
    }

    /// The next message, within the limit.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub(crate) fn next(&mut self) -> Heard {
        self.try_next(LIMIT).expect("a message from NATS")
    }

    /// The next message, if one comes so soon.
    pub(crate) fn try_next(&mut self, within: Duration) -> Option<Heard> {
        let begun = Instant::now();
        while self.heard.is_empty() {
            let left = within.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())?;
            self.stream.get_mut().set_read_timeout(Some(left)).expect("a limit");
            self.read()?;
        }
        self.heard.pop_front()
    }

    /// Reads one thing: a message is kept, and what it is called is said. `None` if the time is over.
    fn read(&mut self) -> Option<String> {
        let mut line = String::new();
        // No line begins before it is there as a whole.
        if self.stream.fill_buf().is_err() {
            return None;
        }
        self.stream.get_mut().set_read_timeout(Some(LIMIT)).expect("a limit");
        self.stream.read_line(&mut line).expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["PING"] => self.write("PONG\r\n"),
            ["MSG" | "HMSG", subject, _, ref rest @ ..] => {
                let (numbers, has_headers) =
                    (&rest[rest.len() - if words[0] == "HMSG" { 2 } else { 1 }..], words[0] == "HMSG");
                let reply = (rest.len() > numbers.len()).then(|| rest[0].to_owned());
                let total: usize = numbers[numbers.len() - 1].parse().expect("a length");
                let headers = if has_headers { numbers[0].parse().expect("a length") } else { 0 };
                let mut body = vec![0; total + 2];
                self.stream.read_exact(&mut body).expect("the message");
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                self.heard.push_back(Heard {
                    subject: subject.into(),
                    reply,
                    headers: text(&body[..headers]),
                    text: text(&body[headers..total]),
                });
            }
            _ => {}
        }
        Some(words.first().copied().unwrap_or_default().to_owned())
    }
}
