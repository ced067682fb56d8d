//! Publishers that are held back, with messages of all lengths.

use alloc::vec::Vec;

use super::*;
use crate::kcp::CongestionControl;

const KCP: kcp::Config =
    kcp::Config { congestion: CongestionControl::Off, send_window: 1024, recv_window: 64, ..kcp::Config::GAMES };

/// A subscriber that may be deaf, and a publisher.
struct Pair {
    now: Instant,
    broker: Broker<SocketAddr>,
    clients: Vec<Client<Heap>>,
    deaf: bool,
    /// Number and length of each message that came.
    got: Vec<(u64, usize)>,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::from_millis(1);
        let config = client::Config { queue: 64 << 20, kcp: KCP, local: true, ..client::Config::default() };
        let clients = (0..2).map(|seed| {
            let mut client = Client::new(config, seed, Parts::heap(&config));
            client.connect(now);
            client
        });
        let clients = clients.collect();
        let config = Config { kcp: KCP, high_water: 200_000, max_queued: 64 << 20, ..Config::default() };
        let mut pair = Self { now, broker: Broker::new(config, 1), clients, deaf: false, got: Vec::new() };
        pair.pass();
        pair.clients[0].subscribe(pair.now, "flood").unwrap();
        pair.pass();
        pair
    }

    fn publish(&mut self, number: u64, len: usize) {
        let mut payload = vec![number as u8; len];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        self.clients[1].publish(self.now, "flood", &payload).unwrap();
    }

    fn pass(&mut self) {
        self.now += Duration::from_millis(5);
        let now = self.now;
        let mut out = vec![0; 65_000];
        self.broker.handle_timeout(now);
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.handle_timeout(now);
            let from = SocketAddr::from(([127, 0, 0, 1], index as u16 + 1));
            while !(self.deaf && index == 0)
                && let Some(len) = client.poll_transmit(now, &mut out)
            {
                self.broker.handle_datagram(now, from, &mut out[..len]);
            }
        }
        while let Some(transmit) = self.broker.poll_transmit(now, &mut out) {
            let index = usize::from(transmit.to.port()) - 1;
            for datagram in out[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                if !(self.deaf && index == 0) {
                    self.clients[index].handle_datagram(now, datagram);
                }
            }
            while let Some(event) = self.clients[index].poll_event() {
                if let client::Event::Message { message, .. } = event {
                    let payload = message.payload();
                    let number = u64::from_be_bytes(*payload.first_chunk().unwrap());
                    assert!(payload[8..].iter().all(|byte| *byte == number as u8), "{number} is whole");
                    self.got.push((number, payload.len()));
                }
            }
        }
        while self.broker.poll_event().is_some() {}
    }

    fn waiting(&mut self) -> (bool, u64) {
        let table = &mut self.broker.sessions.table;
        let index = table.newest(SocketAddr::from(([127, 0, 0, 1], 2))).unwrap();
        (table.get(index).unwrap().session.as_member().backlog.is_empty(), self.broker.stats().received)
    }
}

#[test]
fn long_messages_of_one_that_is_held_back_are_put_together_and_stay_in_their_order() {
    let mut pair = Pair::new();
    pair.deaf = true;
    let mut expected = Vec::new();
    for number in 0..300 {
        // Short ones among them: they wait in the window, and what is behind them as well.
        let len = if number % 20 == 19 { 100 } else { 10_000 + 500 * number as usize % 40_000 };
        pair.publish(number, len);
        expected.push((number, len));
    }
    let (mut kept, mut most) = (false, 0);
    for _ in 0..40 {
        pair.pass();
        let (none, received) = pair.waiting();
        kept |= !none;
        most = most.max(received);
    }
    assert!(kept, "some wait as they are to be sent on");
    // A window, and the message that is next.
    assert!(most <= 64 * 1_500 + 2 * 50_000, "{most} bytes have been taken in");
    assert!(pair.broker.stats().throttled > 0);
    pair.deaf = false;
    for _ in 0..400 {
        pair.pass();
    }
    assert_eq!(pair.got, expected);
    let stats = pair.broker.stats();
    assert_eq!((stats.messages_in, stats.dropped_slow, stats.queued), (300, 0, 0));
    assert_eq!(pair.waiting(), (true, 0), "nothing is kept");
}

#[test]
fn one_that_leaves_while_it_is_held_back_leaves_nothing() {
    let mut pair = Pair::new();
    pair.deaf = true;
    for number in 0..100 {
        pair.publish(number, 50_000);
    }
    for _ in 0..40 {
        pair.pass();
    }
    assert!(!pair.waiting().0 && pair.waiting().1 > 0);
    pair.clients.pop();
    for _ in 0..600 {
        pair.now += Duration::from_secs(1);
        pair.broker.handle_timeout(pair.now);
        while pair.broker.poll_transmit(pair.now, &mut [0; 20_000]).is_some() {}
    }
    assert_eq!((pair.broker.sessions(), pair.broker.stats().received), (0, 0));
}
