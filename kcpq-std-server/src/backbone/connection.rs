//! One connection to a NATS server: from its greeting on, and bytes in and out. It does not wait: the thread does.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kcpq_core::access::Rules;
use mio::net::TcpStream;
use serde_json::{Map, Value, json};

use super::address::NatsAddress;
use super::tls::Session;
use super::wire::{self, Op};
use super::{Backbone, leaf};

/// How long a server may take to greet and to let somebody in.
const GREETING: Duration = Duration::from_secs(5);
/// Bytes that are read in one turn, and by one call.
const TURN: usize = 256 * 1024;
const PIECE: usize = 64 * 1024;
/// What a server takes that does not say it.
const MAX_PAYLOAD: usize = 1 << 20;
/// Addresses of a cluster that are remembered.
const MAX_ADDRESSES: usize = 64;
/// The nats-server whose protocol for leaf nodes is spoken.
const PROTOCOL: &str = "2.9.10";

/// See above.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    session: Option<Session>,
    pub(super) address: NatsAddress,
    pub(super) peer: SocketAddr,
    inbox: Vec<u8>,
    /// What one call reads, before it follows the rest there.
    piece: Box<[u8]>,
    outbox: Vec<u8>,
    /// Of these so many bytes have been sent.
    sent: usize,
    stage: Stage,
    begun: Instant,
    /// What the poller has told and is not used up yet.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Behind what has come nothing more does.
    pub(super) ends: bool,
    pub(super) max_payload: usize,
    /// Others of the server's cluster.
    pub(super) others: Vec<NatsAddress>,
    /// What the server has complained of last.
    complaint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The server is to say what it is,
    Silent,
    /// and to let us in.
    Greeted,
    Ready,
}

/// Why there is no connection: for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection came about.
    Unreachable(String),
    /// It does not speak NATS.
    NotNats,
    /// It is a NATS server that is too old.
    TooOld,
    /// It is another port of a NATS server than the one for leaf nodes, or for clients.
    NoLeafPort,
    LeafPort,
    Tls(String),
    /// It has said why.
    Refused(String),
    /// It says nothing.
    Silent,
    Closed,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot connect: {why}"),
            Self::NotNats => wire::NotNats.fmt(f),
            Self::TooOld => f.write_str("this NATS server knows no headers: 2.2 is the oldest that does"),
            Self::NoLeafPort => f.write_str(
                "this is no port for leaf nodes: give the one of the section leafnodes of that NATS server, 7422 unless it says \
                 otherwise",
            ),
            Self::LeafPort => f.write_str("this is the port for leaf nodes: --nats-leaf takes that, and --nats the one for clients"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Refused(why) if why.starts_with("Loop detected") => {
                write!(f, "the NATS server has found itself behind this server: two ways lead there ({why})")
            }
            Self::Refused(why) => write!(f, "the NATS server says: {why}"),
            Self::Silent => f.write_str("what answers there says nothing"),
            Self::Closed => f.write_str("the NATS server has closed the connection"),
        }
    }
}

/// What the thread has to do with.
pub(super) enum News<'b> {
    Message(Op<'b>),
    Pong,
    /// What a leaf node may publish, and may want.
    Permissions {
        publish: Rules,
        subscribe: Rules,
    },
    /// The server does not do something, and goes on.
    Complaint(&'b str),
}

impl Connection {
    pub(super) fn new(stream: TcpStream, address: NatsAddress, peer: SocketAddr) -> Self {
        Self {
            stream,
            session: None,
            address,
            peer,
            inbox: Vec::new(),
            piece: vec![0; PIECE].into(),
            outbox: Vec::new(),
            sent: 0,
            stage: Stage::Silent,
            begun: Instant::now(),
            readable: true,
            writable: true,
            ends: false,
            max_payload: MAX_PAYLOAD,
            others: Vec::new(),
            complaint: None,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// When it has taken too long to get there.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.is_ready()).then_some(self.begun + GREETING)
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// What is to be sent is appended here.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Sends what there is room for.
    pub(super) fn send(&mut self) -> Result<(), Trouble> {
        while self.writable {
            let rest = &self.outbox[self.sent..];
            let written = match &mut self.session {
                None if rest.is_empty() => break,
                None => self.stream.write(rest),
                Some(session) => session.write(&self.stream, rest),
            };
            match written {
                Ok(0) if self.session.is_some() => {
                    self.writable = rest.is_empty();
                    break;
                }
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.trouble(&error)),
            }
        }
        if self.sent == self.outbox.len() {
            self.outbox.clear();
            self.sent = 0;
        } else if self.sent > TURN {
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Reads what has come, and hands what it means to `tell`.
    pub(super) fn receive(&mut self, backbone: &Backbone, mut tell: impl FnMut(News<'_>)) -> Result<(), Trouble> {
        if !self.readable {
            return Ok(());
        }
        let begun = self.inbox.len();
        let mut is_open = true;
        while self.readable && is_open && self.inbox.len() - begun < TURN {
            let read = match &mut self.session {
                Some(session) => session.read(&self.stream, &mut self.inbox, TURN),
                None => self.stream.read(&mut self.piece).map(|len| {
                    self.inbox.extend_from_slice(&self.piece[..len]);
                    // Less than there was room for is all that there is, and what comes later is told anew (epoll(7)).
                    self.readable = self.ends || len == self.piece.len() || !cfg!(target_os = "linux");
                    len > 0
                }),
            };
            match read {
                Ok(more) => is_open = more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.trouble(&error)),
            }
        }
        let inbox = std::mem::take(&mut self.inbox);
        let mut used = 0;
        let parse = if self.address.is_leaf { leaf::parse } else { wire::parse };
        while let Some((op, len)) = parse(&inbox[used..], self.max_payload).map_err(|_| Trouble::NotNats)? {
            used += len;
            self.act(op, backbone, &mut tell)?;
        }
        self.inbox = inbox;
        self.inbox.drain(..used);
        if is_open { Ok(()) } else { Err(self.complaint.take().map_or(Trouble::Closed, Trouble::Refused)) }
    }

    fn act(&mut self, op: Op<'_>, backbone: &Backbone, tell: &mut impl FnMut(News<'_>)) -> Result<(), Trouble> {
        match op {
            Op::Info(info) => return self.on_info(info, backbone, tell),
            Op::Ping => self.outbox.extend_from_slice(b"PONG\r\n"),
            Op::Pong if self.stage == Stage::Greeted => self.stage = Stage::Ready,
            Op::Pong => tell(News::Pong),
            Op::Error(why) if self.stage == Stage::Ready => {
                if self.address.is_leaf || !why.starts_with("Permissions Violation") {
                    self.complaint = Some(why.to_owned()); // it closes the connection
                }
                tell(News::Complaint(why));
            }
            Op::Error(why) => return Err(Trouble::Refused(why.to_owned())),
            Op::Message { .. } | Op::Interest { .. } | Op::Routed { .. } => tell(News::Message(op)),
            Op::Ok => {}
        }
        Ok(())
    }

    fn on_info(&mut self, info: &[u8], backbone: &Backbone, tell: &mut impl FnMut(News<'_>)) -> Result<(), Trouble> {
        let info: Value = serde_json::from_slice(info).map_err(|_| Trouble::NotNats)?;
        let is = |name: &str| info[name].as_bool().unwrap_or(false);
        let is_leaf = self.address.is_leaf;
        self.others.clear();
        let urls = if is_leaf { "leafnode_urls" } else { "connect_urls" };
        for text in info[urls].as_array().into_iter().flatten().filter_map(Value::as_str).take(MAX_ADDRESSES) {
            if let Ok(other) = text.parse::<NatsAddress>() {
                let (tls, user) = (self.address.tls, self.address.user.clone());
                self.others.push(NatsAddress { tls, is_leaf, user, ..other });
            }
        }
        if let Some(max) = info["max_payload"].as_u64().and_then(|max| usize::try_from(max).ok()) {
            self.max_payload = max;
        }
        if is_leaf && is("connect_info") {
            tell(News::Permissions { publish: rules(&info["export"]), subscribe: rules(&info["import"]) });
        }
        if self.stage != Stage::Silent {
            return Ok(());
        }
        // Only where leaf nodes are let in it is said where else they are, and at least that they are here: nats-server tells
        // its ports apart by that as well.
        match info["leafnode_urls"].is_array() {
            false if is_leaf => return Err(Trouble::NoLeafPort),
            true if !is_leaf => return Err(Trouble::LeafPort),
            _ => {}
        }
        if !is("headers") {
            return Err(Trouble::TooOld);
        }
        let tls = backbone.is_secure(&self.address) || is("tls_required");
        if tls {
            let Some(tls) = &backbone.tls else {
                return Err(Trouble::Tls("the server asks for it, and there is none here".into()));
            };
            if !is("tls_required") && !is("tls_available") {
                return Err(Trouble::Tls("the server has none".into()));
            }
            self.session = Some(tls.begin(&self.address.host).map_err(|error| Trouble::Tls(error.to_string()))?);
        }
        let mut connect = Map::new();
        let of_leaf = [
            ("name", json!(backbone.name)),
            // The server whose protocol it speaks: there may be a `min_version`.
            ("version", json!(PROTOCOL)),
            ("tls_required", json!(tls)),
            ("headers", json!(true)),
        ];
        let of_client = [
            ("verbose", json!(false)),
            ("pedantic", json!(false)),
            ("tls_required", json!(tls)),
            ("lang", json!("rust")),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("name", json!(backbone.name)),
            ("protocol", json!(1)),
            // Of the one that publishes nothing it comes from the other one.
            ("echo", json!(false)),
            ("headers", json!(true)),
            ("no_responders", json!(true)),
        ];
        for (name, value) in if is_leaf { &of_leaf[..] } else { &of_client } {
            connect.insert((*name).into(), value.clone());
        }
        backbone.credentials.say(&self.address, info["nonce"].as_str(), &mut connect);
        let line = format!("CONNECT {}\r\nPING\r\n", Value::Object(connect));
        self.outbox.extend_from_slice(line.as_bytes());
        self.stage = Stage::Greeted;
        Ok(())
    }

    fn trouble(&mut self, error: &io::Error) -> Trouble {
        match self.complaint.take() {
            Some(why) => Trouble::Refused(why),
            None if error.kind() == io::ErrorKind::InvalidData => Trouble::Tls(error.to_string()),
            None if self.session.is_some() && self.stage != Stage::Ready => Trouble::Tls(error.to_string()),
            None => Trouble::Unreachable(error.to_string()),
        }
    }
}

/// What a NATS server permits a leaf node, of one way: `{"allow": [..], "deny": [..]}`, each with the group behind a pattern if it
/// is of one alone. Without any everything is allowed.
fn rules(said: &Value) -> Rules {
    let patterns = |name: &str| {
        let all = said[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter_map(|text| text.split_ascii_whitespace().next()).map(Box::from).collect::<Vec<Box<str>>>()
    };
    let allow = patterns("allow");
    Rules { allow: (!allow.is_empty()).then_some(allow), deny: patterns("deny") }
}
