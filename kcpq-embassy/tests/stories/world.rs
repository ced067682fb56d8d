//! Clients, a broker and the links between them in virtual time, on an executor that polls only what was woken: a waker
//! that is forgotten shows as a test that hangs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use kcpq_core::broker::{self, Broker};
use kcpq_core::sim::{self, Link};
use kcpq_embassy::{Client, Config, Duration, Instant, Resources, Runner, Timer, Transport};

pub(crate) type Pocket = Resources<'static, NoopRawMutex, 512, 4, 1024, 1024, 4>;
type Roomy = Resources<'static, NoopRawMutex, 512, 4, 8192, 1024, 4>;
pub(crate) type Handle = Client<'static, NoopRawMutex>;

pub(crate) const CLEAN: sim::Config = sim::Config::clean(Duration::from_millis(10));
/// Loses a tenth, doubles some, and reorders.
pub(crate) const BAD: sim::Config =
    sim::Config { loss: 0.1, duplicate: 0.05, jitter: Duration::from_millis(30), ..CLEAN };

thread_local! {
    static NOW: Cell<Instant> = const { Cell::new(Instant::from_millis(1)) };
}

pub(crate) fn now() -> Instant {
    NOW.get()
}

struct Node {
    up: Link,
    down: Link,
    addr: SocketAddr,
    inbox: VecDeque<Vec<u8>>,
    waker: Option<Waker>,
    /// The longest datagram that the stack sends.
    longest: usize,
    /// The stack takes nothing, and says nothing: its neighbour does not answer.
    stuck: bool,
}

struct Net {
    broker: Broker<SocketAddr>,
    /// While the server is away, what is sent to it is lost.
    away: bool,
    nodes: Vec<Node>,
    timers: Vec<(Instant, Waker)>,
}

/// A task's mark that it wants to be polled.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
}

pub(crate) struct World {
    net: Rc<RefCell<Net>>,
    tasks: Vec<Task>,
}

/// One client's way to the broker.
pub(crate) struct Wire {
    net: Rc<RefCell<Net>>,
    node: usize,
}

/// The stack does not send a datagram of this length.
#[derive(Debug)]
pub(crate) struct TooLong;

impl Transport for Wire {
    type Error = TooLong;

    async fn send(&mut self, datagram: &[u8]) -> Result<(), TooLong> {
        if self.net.borrow().nodes[self.node].stuck {
            core::future::pending::<()>().await;
        }
        let sent = {
            let node = &mut self.net.borrow_mut().nodes[self.node];
            let fits = datagram.len() <= node.longest;
            if fits {
                node.up.send(now(), datagram);
            }
            fits
        };
        // A place where the future can be dropped.
        embassy_futures::yield_now().await;
        if sent { Ok(()) } else { Err(TooLong) }
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        poll_fn(|cx| {
            let node = &mut self.net.borrow_mut().nodes[self.node];
            match node.inbox.pop_front() {
                Some(datagram) if datagram.len() <= buffer.len() => {
                    buffer[..datagram.len()].copy_from_slice(&datagram);
                    Poll::Ready(Ok(datagram.len()))
                }
                Some(_) => Poll::Ready(Ok(0)),
                None => {
                    node.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn is_too_long(TooLong: &TooLong) -> bool {
        true
    }

    async fn renew(&mut self) -> Result<(), TooLong> {
        let node = &mut self.net.borrow_mut().nodes[self.node];
        node.addr.set_port(node.addr.port() + 100);
        Ok(())
    }
}

pub(crate) struct Alarm(Rc<RefCell<Net>>);

impl Timer for Alarm {
    async fn wait_until(&mut self, at: Instant) {
        poll_fn(|cx| {
            if at <= now() {
                return Poll::Ready(());
            }
            self.0.borrow_mut().timers.push((at, cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl World {
    pub(crate) fn new() -> Self {
        NOW.set(Instant::from_millis(1));
        let broker = Broker::new(broker::Config::default(), 1);
        let net = Net { broker, away: false, nodes: Vec::new(), timers: Vec::new() };
        Self { net: Rc::new(RefCell::new(net)), tasks: Vec::new() }
    }

    /// A client whose runner runs.
    pub(crate) fn client(&mut self, link: sim::Config) -> Handle {
        let (client, mut runner, mut wire, mut alarm) = self.parts(Config::default(), link);
        self.spawn(async move { runner.run(&mut wire, &mut alarm).await });
        client
    }

    /// A client, and what its runner needs.
    pub(crate) fn parts(
        &mut self,
        config: Config,
        link: sim::Config,
    ) -> (Handle, Runner<'static, NoopRawMutex>, Wire, Alarm) {
        let node = self.net.borrow().nodes.len();
        let seed = node as u64 * 7 + 3;
        self.net.borrow_mut().nodes.push(Node {
            up: Link::new(link, seed),
            down: Link::new(link, seed ^ 0xaaaa),
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 5000 + node as u16)),
            inbox: VecDeque::new(),
            waker: None,
            longest: usize::MAX,
            stuck: false,
        });
        // The second client has a queue for messages that the others cannot take in.
        let (client, runner) = if node == 1 {
            Box::leak(Box::new(Roomy::new())).split(&config, now, seed)
        } else {
            Box::leak(Box::new(Pocket::new())).split(&config, now, seed)
        };
        (client, runner, Wire { net: self.net.clone(), node }, Alarm(self.net.clone()))
    }

    pub(crate) fn alarm(&self) -> Alarm {
        Alarm(self.net.clone())
    }

    pub(crate) fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.tasks.push(Task { future: Box::pin(future), flag: Arc::new(Flag(AtomicBool::new(true))) });
    }

    /// Another broker in place of the present one, which is gone without a word.
    pub(crate) fn restart(&mut self) {
        self.net.borrow_mut().broker = Broker::new(broker::Config::default(), 2);
    }

    /// The stack of the client sends no longer datagrams from now on.
    pub(crate) fn set_longest(&mut self, node: usize, longest: usize) {
        self.net.borrow_mut().nodes[node].longest = longest;
    }

    pub(crate) fn set_stuck(&mut self, node: usize, stuck: bool) {
        self.net.borrow_mut().nodes[node].stuck = stuck;
    }

    pub(crate) fn set_away(&mut self, away: bool) {
        self.net.borrow_mut().away = away;
    }

    pub(crate) fn broker_stats(&self) -> broker::Stats {
        self.net.borrow().broker.stats()
    }

    pub(crate) fn sessions(&self) -> u64 {
        self.net.borrow().broker.stats().sessions
    }

    /// Polls what was woken; false if nothing was.
    fn poll_tasks(&mut self) -> bool {
        let mut any = false;
        let mut index = 0;
        while index < self.tasks.len() {
            let task = &mut self.tasks[index];
            if task.flag.0.swap(false, Ordering::Relaxed) {
                any = true;
                let waker = Waker::from(task.flag.clone());
                if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    drop(self.tasks.swap_remove(index));
                    continue;
                }
            }
            index += 1;
        }
        any
    }

    fn settle(&mut self) {
        loop {
            let ran = self.poll_tasks();
            let moved = self.net.borrow_mut().carry();
            if !ran && !moved {
                return;
            }
        }
    }

    /// On to the next moment at which anything happens; false if there is none.
    fn step(&mut self) -> bool {
        self.settle();
        let mut net = self.net.borrow_mut();
        let Some(next) = net.next() else { return false };
        NOW.set(next.max(now() + Duration::from_micros(1)));
        if !net.away {
            net.broker.handle_timeout(now());
        }
        net.timers.retain(|(at, waker)| {
            if *at <= now() {
                waker.wake_by_ref();
            }
            *at > now()
        });
        drop(net);
        self.settle();
        true
    }

    /// Lets `span` pass, whether anything happens or not.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = now() + span;
        self.settle();
        loop {
            let next = self.net.borrow().next();
            if next.is_none_or(|next| next > end) {
                NOW.set(now().max(end));
                return;
            }
            self.step();
        }
    }

    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut() -> bool) {
        let end = now() + Duration::from_secs(3_600);
        self.settle();
        while !done() {
            assert!(now() < end && self.step(), "an hour passed without: {what}");
        }
    }

    /// Runs `future` to its end and returns what it gives.
    pub(crate) fn block_on<T: 'static>(&mut self, what: &str, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        self.run_until(what, || result.borrow().is_some());
        result.take().unwrap()
    }
}

impl Net {
    /// Carries what has arrived; false if nothing had.
    fn carry(&mut self) -> bool {
        let now = now();
        let mut moved = false;
        let mut out = vec![0; 65_000];
        for node in &mut self.nodes {
            while let Some(mut datagram) = node.up.recv(now) {
                moved = true;
                if !self.away {
                    self.broker.handle_datagram(now, node.addr, &mut datagram);
                }
            }
        }
        while let Some(transmit) = self.broker.poll_transmit(now, &mut out) {
            moved = true;
            if let Some(node) = self.nodes.iter_mut().find(|node| node.addr == transmit.to) {
                for datagram in out[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                    node.down.send(now, datagram);
                }
            }
        }
        while self.broker.poll_event().is_some() {}
        for node in &mut self.nodes {
            while let Some(datagram) = node.down.recv(now) {
                moved = true;
                node.inbox.push_back(datagram);
                if let Some(waker) = node.waker.take() {
                    waker.wake();
                }
            }
        }
        moved
    }

    fn next(&self) -> Option<Instant> {
        let links = self.nodes.iter().flat_map(|node| [node.up.next_arrival(), node.down.next_arrival()]);
        let broker = self.broker.poll_timeout().map(|deadline| deadline.at).filter(|_| !self.away);
        links.flatten().chain(broker).chain(self.timers.iter().map(|(at, _)| *at)).min()
    }
}

/// Runs the future that `make` makes, but drops it and makes another after every `every`th poll.
pub(crate) async fn cut<T>(every: u32, mut make: impl AsyncFnMut() -> T) -> T {
    loop {
        let mut future = std::pin::pin!(make());
        let mut left = every;
        let done = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        })
        .await;
        match done {
            Some(value) => return value,
            // What woke the old one wakes the task, and a new one is made then.
            None => {
                let mut dropped = true;
                poll_fn(|_| if std::mem::take(&mut dropped) { Poll::Pending } else { Poll::Ready(()) }).await;
            }
        }
    }
}
