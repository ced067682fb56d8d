//! A UDP relay that plays a bad link between clients and a server.
//!
//! ```text
//!  client A ─┐             ┌─ socket A ─┐
//!  client B ─┤ front socket├─ socket B ─┤ upstream (the server)
//!            └── addr() ───┘            │
//! ```
//!
//! Each client gets a socket of its own towards the server, so the server sees as many addresses as there are clients.
//! Each direction of each client has its own random numbers, seeded from [`RelayConfig::seed`] and the order in which
//! clients appear: the fate of a direction's n-th datagram is always the same, whatever the other threads do.
//!
//! The sockets have the kernel's default buffers. What these drop in a burst appears in no counter.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The link's faults, the same in both directions. The default is a perfect link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RelayConfig {
    /// Where the random numbers start.
    pub(crate) seed: u64,
    /// Share of datagrams that are dropped, 0.0 to 1.0.
    pub(crate) loss: f64,
    /// Share of the others that are sent twice, 0.0 to 1.0.
    pub(crate) duplicate: f64,
    /// Share of sent copies of which one random bit is inverted, 0.0 to 1.0.
    pub(crate) corrupt: f64,
    /// How long each datagram is held back.
    pub(crate) delay: Duration,
    /// Up to this much more, evenly distributed: datagrams overtake each other.
    pub(crate) jitter: Duration,
}

/// What happened in one direction, all clients together. Numbers of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Arrived at the relay.
    pub(crate) received: u64,
    /// Given to the network, duplicates included, when their delay is over.
    pub(crate) forwarded: u64,
    /// Dropped by chance.
    pub(crate) lost: u64,
    /// Dropped because of [`Relay::set_outage`].
    pub(crate) cut: u64,
    /// Sent twice.
    pub(crate) duplicated: u64,
    /// Copies with an inverted bit.
    pub(crate) corrupted: u64,
}

/// A running relay; it stops when it is dropped. Datagrams that are held back then are gone.
#[derive(Debug)]
pub(crate) struct Relay {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay on a free loopback port of the upstream's address family.
    ///
    /// # Panics
    ///
    /// If the socket or the threads cannot be made.
    pub(crate) fn start(upstream: SocketAddr, config: RelayConfig) -> Self {
        let front = UdpSocket::bind(loopback_for(upstream)).expect("a loopback port for the relay");
        let addr = front.local_addr().expect("the address of a bound socket");
        let shared = Arc::new(Shared {
            front,
            config,
            loss: AtomicU64::new(config.loss.to_bits()),
            outage: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            upstream: RwLock::new(upstream),
            stopped: AtomicBool::new(false),
            to_upstream: Tally::default(),
            to_clients: Tally::default(),
            links: Mutex::default(),
            held: Mutex::default(),
            held_changed: Condvar::new(),
        });
        let mut threads = vec![spawn("relay front", &shared, run_front)];
        if config.delay + config.jitter > Duration::ZERO {
            threads.push(spawn("relay delay", &shared, run_delay));
        }
        Self { addr, shared, threads }
    }

    /// Where clients send to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Client to server.
    pub(crate) fn to_upstream(&self) -> Counters {
        self.shared.to_upstream.read()
    }

    /// Server to client.
    pub(crate) fn to_clients(&self) -> Counters {
        self.shared.to_clients.read()
    }

    /// Changes the share of lost datagrams, in both directions, from now on.
    pub(crate) fn set_loss(&self, loss: f64) {
        self.shared.loss.store(loss.to_bits(), Ordering::Relaxed);
    }

    /// Drops everything in both directions while it is set, held datagrams too when they are due.
    pub(crate) fn set_outage(&self, outage: bool) {
        self.shared.outage.store(outage, Ordering::Relaxed);
    }

    /// Forgets from which port each client is seen, as a NAT does that was started again: its next datagram comes from another
    /// one, and what the server sends to the old ones is lost.
    pub(crate) fn rebind(&self) {
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends clients' datagrams to another server from now on, from the same ports. What the old one still says is
    /// ignored.
    pub(crate) fn set_upstream(&self, upstream: SocketAddr) {
        *self.shared.upstream.write().unwrap_or_else(PoisonError::into_inner) = upstream;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // An empty datagram ends the wait of a thread in recv_from. A full buffer loses it, but then nobody waits.
        wake(&self.shared.front);
        let links = std::mem::take(&mut *lock(&self.shared.links));
        for link in &links {
            wake(&link.link.socket);
        }
        drop(lock(&self.shared.held));
        self.shared.held_changed.notify_all();
        for thread in self.threads.drain(..).chain(links.into_iter().map(|link| link.thread)) {
            // A panic of a relay thread has been reported; a second one here would abort the test run.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Shared {
    front: UdpSocket,
    config: RelayConfig,
    /// An f64 by its bits.
    loss: AtomicU64,
    outage: AtomicBool,
    /// Of the links in use.
    generation: AtomicU64,
    upstream: RwLock<SocketAddr>,
    stopped: AtomicBool,
    to_upstream: Tally,
    to_clients: Tally,
    /// The front thread adds, drop empties.
    links: Mutex<Vec<RunningLink>>,
    held: Mutex<Held>,
    held_changed: Condvar,
}

/// One client's way to the server.
#[derive(Debug)]
struct Link {
    client: SocketAddr,
    generation: u64,
    socket: UdpSocket,
}

#[derive(Debug)]
struct RunningLink {
    link: Arc<Link>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToUpstream,
    ToClient,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn upstream(&self) -> SocketAddr {
        *self.upstream.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self, direction: Direction) -> &Tally {
        match direction {
            Direction::ToUpstream => &self.to_upstream,
            Direction::ToClient => &self.to_clients,
        }
    }

    /// Decides the fate of a datagram.
    fn pass(&self, link: &Arc<Link>, direction: Direction, random: &mut Random, datagram: &mut [u8]) {
        let tally = self.tally(direction);
        add(&tally.received);
        // One number each, whatever becomes of it: neither an outage nor another loss changes the fate of later ones.
        let mut random = Random(random.next());
        let lost = random.chance(f64::from_bits(self.loss.load(Ordering::Relaxed)));
        let copies = if random.chance(self.config.duplicate) { 2 } else { 1 };
        if self.outage.load(Ordering::Relaxed) {
            add(&tally.cut);
            return;
        }
        if lost {
            add(&tally.lost);
            return;
        }
        if copies == 2 {
            add(&tally.duplicated);
        }
        for _ in 0..copies {
            let flipped = (random.chance(self.config.corrupt) && !datagram.is_empty())
                .then(|| (random.below(datagram.len() as u64) as usize, 1u8 << random.below(8)));
            if let Some((at, bit)) = flipped {
                add(&tally.corrupted);
                datagram[at] ^= bit;
            }
            self.send_or_hold(link, direction, &mut random, datagram);
            if let Some((at, bit)) = flipped {
                datagram[at] ^= bit;
            }
        }
    }

    fn send_or_hold(&self, link: &Arc<Link>, direction: Direction, random: &mut Random, datagram: &[u8]) {
        let RelayConfig { delay, jitter, .. } = self.config;
        if delay + jitter == Duration::ZERO {
            self.send(link, direction, datagram);
            return;
        }
        let due = Instant::now() + delay + jitter.mul_f64(random.unit());
        let mut held = lock(&self.held);
        held.count += 1;
        let order = held.count;
        held.queue.push(Reverse(HeldDatagram { due, order, link: link.clone(), direction, bytes: datagram.into() }));
        drop(held);
        self.held_changed.notify_one();
    }

    fn send(&self, link: &Link, direction: Direction, datagram: &[u8]) {
        // Counted first: who has received a datagram finds it in the counters.
        add(&self.tally(direction).forwarded);
        // A refused datagram is one more that the network loses.
        let _ = match direction {
            Direction::ToUpstream => link.socket.send_to(datagram, self.upstream()),
            Direction::ToClient => self.front.send_to(datagram, link.client),
        };
    }
}

/// Takes datagrams of all clients and opens a link for each new one.
fn run_front(shared: &Arc<Shared>) {
    let mut links: HashMap<(SocketAddr, u64), (Arc<Link>, Random)> = HashMap::new();
    let mut buffer = vec![0; 65536];
    while let Some((len, client)) = receive(shared, &shared.front, &mut buffer) {
        let index = links.len() as u64;
        let generation = shared.generation.load(Ordering::SeqCst);
        let link = links.entry((client, generation));
        let (link, random) = link.or_insert_with(|| open_link(shared, client, generation, index));
        shared.pass(link, Direction::ToUpstream, random, &mut buffer[..len]);
    }
}

fn open_link(shared: &Arc<Shared>, client: SocketAddr, generation: u64, index: u64) -> (Arc<Link>, Random) {
    let socket = UdpSocket::bind(loopback_for(client)).expect("a loopback port for a link of the relay");
    let link = Arc::new(Link { client, generation, socket });
    let seed = shared.config.seed ^ Random(index).next();
    // Under the lock, so that drop either sees this link or has told it to stop.
    let mut running = lock(&shared.links);
    let thread = {
        let link = link.clone();
        spawn("relay link", shared, move |shared| run_link(shared, &link, Random(seed)))
    };
    running.push(RunningLink { link: link.clone(), thread });
    (link, Random(!seed))
}

/// Takes the server's datagrams to one client.
fn run_link(shared: &Arc<Shared>, link: &Arc<Link>, mut random: Random) {
    let mut buffer = vec![0; 65536];
    while let Some((len, from)) = receive(shared, &link.socket, &mut buffer) {
        if from == shared.upstream() && link.generation == shared.generation.load(Ordering::SeqCst) {
            shared.pass(link, Direction::ToClient, &mut random, &mut buffer[..len]);
        }
    }
}

/// The next datagram, or `None` when the relay has stopped.
fn receive(shared: &Shared, socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    loop {
        if shared.stopped() {
            return None;
        }
        match socket.recv_from(buffer) {
            Ok(received) if !shared.stopped() => return Some(received),
            Ok(_) => return None,
            // Some systems report here that an earlier datagram was refused.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) => {}
            Err(error) => panic!("relay socket: {error}"),
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    queue: BinaryHeap<Reverse<HeldDatagram>>,
    count: u64,
}

#[derive(Debug)]
struct HeldDatagram {
    due: Instant,
    /// Equal instants leave in the order of arrival.
    order: u64,
    link: Arc<Link>,
    direction: Direction,
    bytes: Box<[u8]>,
}

impl Ord for HeldDatagram {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl PartialOrd for HeldDatagram {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for HeldDatagram {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for HeldDatagram {}

/// Sends held datagrams when they are due.
fn run_delay(shared: &Arc<Shared>) {
    let mut held = lock(&shared.held);
    while !shared.stopped() {
        let now = Instant::now();
        match held.queue.peek() {
            Some(Reverse(first)) if first.due <= now => {
                let Some(Reverse(first)) = held.queue.pop() else { continue };
                // Sending without the lock lets the receiving threads go on.
                drop(held);
                if shared.outage.load(Ordering::Relaxed) {
                    add(&shared.tally(first.direction).cut);
                } else {
                    shared.send(&first.link, first.direction, &first.bytes);
                }
                held = lock(&shared.held);
            }
            Some(Reverse(first)) => {
                let wait = first.due - now;
                held = shared.held_changed.wait_timeout(held, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
            None => held = shared.held_changed.wait(held).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    received: AtomicU64,
    forwarded: AtomicU64,
    lost: AtomicU64,
    cut: AtomicU64,
    duplicated: AtomicU64,
    corrupted: AtomicU64,
}

impl Tally {
    fn read(&self) -> Counters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            received: load(&self.received),
            forwarded: load(&self.forwarded),
            lost: load(&self.lost),
            cut: load(&self.cut),
            duplicated: load(&self.duplicated),
            corrupted: load(&self.corrupted),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to lose datagrams with.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0.0 up to, but not, 1.0.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, shared: &Arc<Shared>, run: impl FnOnce(&Arc<Shared>) + Send + 'static) -> JoinHandle<()> {
    let shared = shared.clone();
    std::thread::Builder::new().name(name.into()).spawn(move || run(&shared)).expect("a thread for the relay")
}

fn wake(socket: &UdpSocket) {
    if let Ok(addr) = socket.local_addr() {
        let _ = socket.send_to(&[], addr);
    }
}

fn loopback_for(peer: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if peer.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(ip, 0)
}
