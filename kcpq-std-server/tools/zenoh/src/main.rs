//! Load for zenoh, by the same method as `rivals`, and a router for it: for `scripts/compare`, and no part of the program.
//!
//! Zenoh's protocol is not written by hand but by its own crate, blocking, with messages that wait rather than get lost.
//! Each subscriber is a session of its own. The router is opened as `zenohd` opens it, without plugins.
//!
//! ```sh
//! cargo run --release -- serve 127.0.0.1:7447
//! cargo run --release -- load 127.0.0.1:7447 --size 128 --subs 1
//! ```
//!
//! The latter prints one JSON object with the fields of `kcpq bench --json` that apply.

#![forbid(unsafe_code)]

#[path = "../../src/bin/rivals/measure.rs"]
#[allow(dead_code, reason = "zenoh has threads of its own, which nobody has to tell that all is over")]
mod measure;

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::{Config, Session, Wait};

use measure::{Payload, Publish, Shared, Work, measure};

const KEY: &str = "bench";
/// Who asks for this has an answer when what it has said before has come to the router.
const READY: &str = "ready";
/// Messages after which it is looked at the clock; zenoh gathers them by itself.
const BATCH: u32 = 64;

/// Zenoh's router, and load for it.
#[derive(Debug, Parser)]
enum Command {
    /// Runs a router until it is killed
    Serve {
        /// Where it listens
        addr: SocketAddr,
    },
    /// Publishes through a router, and prints what came of it
    Load {
        /// Where it listens
        addr: SocketAddr,
        #[command(flatten)]
        work: Work,
    },
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Serve { addr } => serve(addr),
        Command::Load { addr, work } => load(addr, &work),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // It says so in its output.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kcpq-zenoh-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(addr: SocketAddr) -> Result<bool> {
    let _router = open("router", "listen", addr)?;
    println!("listening on {addr}");
    loop {
        thread::park();
    }
}

fn load(addr: SocketAddr, work: &Work) -> Result<bool> {
    let shared = Shared::new(work)?;
    let session = open("client", "connect", addr)?;
    let answers = session.declare_queryable(READY).callback(|query| {
        // Who asked asks again if it has no answer.
        let _ = query.reply(READY, "").wait();
    });
    let _answers = answers.wait().map_err(Error::other)?;
    let mut subscribers = Vec::new();
    for index in 0..work.subs {
        let (session, shared) = (open("client", "connect", addr)?, Arc::clone(&shared));
        let subscriber = session.declare_subscriber(KEY).callback(move |sample| {
            shared.time(index, &sample.payload().to_bytes());
            shared.count(index, 1);
        });
        let subscriber = subscriber.wait().map_err(Error::other)?;
        // Nothing acknowledges a subscription. A question takes the same way behind it.
        while session.get(READY).wait().map_err(Error::other)?.recv().is_err() {}
        subscribers.push((session, subscriber));
    }
    let publisher = session.declare_publisher(KEY).congestion_control(CongestionControl::Block);
    let publisher = publisher.wait().map_err(Error::other)?;
    while !publisher.matching_status().wait().map_err(Error::other)?.matching() {
        thread::yield_now();
    }
    measure(work, shared, Load { publisher, size: work.size, waiting: 0 })
}

/// A session that looks for nobody but whom it is told.
fn open(mode: &str, how: &str, addr: SocketAddr) -> Result<Session> {
    let config = format!(
        r#"{{ mode: "{mode}", {how}: {{ endpoints: ["tcp/{addr}"] }}, scouting: {{ multicast: {{ enabled: false }} }} }}"#
    );
    let config = Config::from_json5(&config).map_err(Error::other)?;
    zenoh::open(config).wait().map_err(Error::other)
}

struct Load {
    publisher: Publisher<'static>,
    size: usize,
    waiting: u32,
}

impl Publish for Load {
    fn push(&mut self, payload: Payload) -> Result<()> {
        let mut bytes = Vec::with_capacity(self.size);
        payload.append(self.size, &mut bytes);
        self.waiting += 1;
        self.publisher.put(bytes).wait().map_err(Error::other)
    }

    fn is_full(&self) -> bool {
        self.waiting >= BATCH
    }

    fn flush(&mut self) -> Result<()> {
        self.waiting = 0;
        Ok(())
    }
}
