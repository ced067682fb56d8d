//! A server for tests: the core's broker on a socket of its own, in a thread. And waiting for conditions.
#![allow(dead_code, reason = "each test program uses a part")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kcpq_core::broker::{Broker, Config, SessionCursor, Stats};

/// How long anything may take. Tests wait for conditions, so this is only reached when one fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What the test sees of a server.
#[derive(Clone, Copy, Default)]
pub(crate) struct View {
    pub(crate) sessions: usize,
    pub(crate) patterns: usize,
    pub(crate) stats: Stats,
}

struct Shared {
    stop: AtomicBool,
    paused: AtomicBool,
    /// What each datagram takes to be read, in milliseconds.
    slowness: AtomicU64,
    /// The client of this name is to lose one of its sessions.
    kick: Mutex<Option<String>>,
    view: Mutex<View>,
}

/// A broker that serves until it is dropped, which is without a word: as if it were killed.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), Config::default())
    }

    /// Listens on `addr`, which another server may have left a moment ago.
    pub(crate) fn start_at(addr: SocketAddr, config: Config) -> Self {
        let begun = Instant::now();
        let socket = loop {
            match UdpSocket::bind(addr) {
                Ok(socket) => break socket,
                Err(error) => assert!(begun.elapsed() < LIMIT, "cannot listen on {addr}: {error}"),
            }
            std::thread::yield_now();
        };
        let addr = socket.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            slowness: AtomicU64::new(0),
            kick: Mutex::new(None),
            view: Mutex::new(View::default()),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&socket, config, &shared)
        });
        Self { addr, shared, thread: Some(thread) }
    }

    pub(crate) fn view(&self) -> View {
        *self.shared.view.lock().expect("the server has not panicked")
    }

    /// While paused the server neither reads nor writes.
    pub(crate) fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, SeqCst);
    }

    /// From now on each datagram takes as long to be read as on a slow link.
    pub(crate) fn slow_down(&self, millis: u64) {
        self.shared.slowness.store(millis, SeqCst);
    }

    /// Ends one of the sessions of the client of this name, soon.
    pub(crate) fn kick(&self, name: &str) {
        *self.shared.kick.lock().expect("the server has not panicked") = Some(name.into());
    }

    /// Waits until `condition` holds.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&View) -> bool) {
        wait_for(what, || condition(&self.view()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            assert!(std::thread::panicking(), "the server has panicked");
        }
    }
}

fn serve(socket: &UdpSocket, config: Config, shared: &Shared) {
    let epoch = Instant::now();
    let now = || kcpq_core::Instant::from_micros(epoch.elapsed().as_micros() as u64);
    let mut broker = Broker::<SocketAddr>::new(config, fastrand::u64(..));
    let (mut datagram, mut out) = (vec![0; 65_535], vec![0; 32_000]);
    while !shared.stop.load(SeqCst) {
        if shared.paused.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let span = broker.poll_timeout().map_or(20_000, |deadline| deadline.at.since(now()).as_micros());
        socket.set_read_timeout(Some(Duration::from_micros(span.clamp(1, 20_000)))).expect("the span is not zero");
        if let Ok((len, from)) = socket.recv_from(&mut datagram) {
            std::thread::sleep(Duration::from_millis(shared.slowness.load(SeqCst)));
            broker.handle_datagram(now(), from, &mut datagram[..len]);
        }
        broker.handle_timeout(now());
        if let Some(name) = shared.kick.lock().expect("the test has not panicked with it").take() {
            let sessions = broker.view_sessions(now(), SessionCursor::default(), usize::MAX).items;
            let session = sessions.iter().find(|one| one.client.as_deref() == Some(&name) && one.closing.is_none());
            broker.kick(now(), session.expect("there is such a session").id);
        }
        while broker.poll_event().is_some() {}
        while let Some(transmit) = broker.poll_transmit(now(), &mut out) {
            for datagram in out[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                // What the system refuses is as good as lost on the way.
                let _ = socket.send_to(datagram, transmit.to);
            }
        }
        *shared.view.lock().expect("the test has not panicked with it") =
            View { sessions: broker.sessions(), patterns: broker.patterns(), stats: broker.stats() };
    }
}

/// Waits until `condition` holds, looking often; panics when that takes longer than [`LIMIT`].
pub(crate) fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a test's future, which must be ready within [`LIMIT`].
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    smol::block_on(soon(test))
}

/// What `future` gives, within [`LIMIT`].
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        smol::Timer::after(LIMIT).await;
        panic!("the test takes too long");
    };
    futures_lite::future::or(future, late).await
}
