//! What of a long message is copied on its way, told by where its bytes lie.
//!
//! Of one that is published by reference, and for which there is room, two copies are left: into memory of its own at the server,
//! and at each subscriber, both from datagrams. What goes to the system lies where it was published, or where the server has
//! put it together.

use std::net::SocketAddr;

use bytes::Bytes;
use kcpq_core::broker::{self, Broker, Keys};
use kcpq_core::client::{self, Arrived, Client, Parts};
use kcpq_core::datagram::LOCAL_DATAGRAM;
use kcpq_core::kcp::{self, CongestionControl};
use kcpq_core::lane::Lane;
use kcpq_core::seal::{Cipher, SharedSecret, Trust};
use kcpq_core::store::{Gather, Heap};
use kcpq_core::{Duration, Instant};

const KCP: kcp::Config =
    kcp::Config { congestion: CongestionControl::Off, send_window: 256, recv_window: 256, ..kcp::Config::GAMES };
const LEN: usize = 200_000;
/// Clients: the first publishes, the others subscribe.
const CLIENTS: u16 = 3;

/// What went out of one end to another, and from where: addresses and lengths of what did not lie in the buffer.
#[derive(Default)]
struct Sent {
    bytes: usize,
    calls: usize,
    datagrams: usize,
    lent: Vec<(usize, usize)>,
}

impl Sent {
    /// Takes in what a call is to send, and returns it in one piece.
    fn on_batch(&mut self, gather: &Gather, datagrams: &[u8], segment: Option<usize>) -> Vec<u8> {
        self.calls += 1;
        self.datagrams += datagrams.len().div_ceil(segment.unwrap_or(datagrams.len()));
        let buffer = datagrams.as_ptr_range();
        for slice in gather.slices(datagrams) {
            self.bytes += slice.len();
            if !buffer.contains(&slice.as_ptr()) {
                self.lent.push((slice.as_ptr().addr(), slice.len()));
            }
        }
        gather.slices(datagrams).collect::<Vec<_>>().concat()
    }

    fn lent_bytes(&self) -> usize {
        self.lent.iter().map(|(_, len)| len).sum()
    }
}

struct World {
    now: Instant,
    broker: Broker<SocketAddr>,
    clients: Vec<Client<Heap>>,
    /// What each client has sent, and was sent; and the messages that it got.
    up: Vec<Sent>,
    down: Vec<Sent>,
    got: Vec<Vec<Bytes>>,
    /// How many each got that were short, or lay in one datagram.
    lent: Vec<usize>,
}

impl World {
    /// All are connected, and have subscribed.
    fn new(sealed: bool) -> Self {
        let now = Instant::from_millis(1);
        // Long datagrams, as on one machine.
        let native_datagram = LOCAL_DATAGRAM;
        let config = client::Config { kcp: KCP, local: true, native_datagram, ..client::Config::default() };
        let secret = || SharedSecret::from_bytes(&[1; 32]);
        let clients = (0..CLIENTS).map(|seed| {
            let client = Client::new(config, seed.into(), Parts::heap(&config));
            if sealed {
                let trust = Trust::Shared { secret: secret() };
                return client.with_keys(trust, Cipher::ChaChaPoly, &[seed as u8; 32]).unwrap();
            }
            client
        });
        let mut clients: Vec<Client<Heap>> = clients.collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.connect(now);
            if index > 0 {
                client.subscribe(now, "frames.>").unwrap();
            }
        }
        let mut broker = Broker::new(broker::Config { kcp: KCP, ..broker::Config::default() }, 1);
        if sealed {
            let keys = Keys { secret: Some(secret()), ..Keys::default() };
            broker = broker.with_keys(keys, &[2; 32]);
        }
        let sent = || clients.iter().map(|_| Sent::default()).collect();
        let (up, down, got) = (sent(), sent(), clients.iter().map(|_| Vec::new()).collect());
        let lent = vec![0; clients.len()];
        let mut world = Self { now, broker, clients, up, down, got, lent };
        world.carry();
        world
    }

    /// Lets everything happen that is due within some round trips.
    fn carry(&mut self) {
        let Self { now, broker, clients, up, down, got, lent } = self;
        let (mut out, mut gather) = (vec![0; 65_000], Gather::default());
        for _ in 0..50 {
            *now += Duration::from_millis(2);
            broker.handle_timeout(*now);
            for (index, client) in clients.iter_mut().enumerate() {
                client.handle_timeout(*now);
                while let Some(transmit) = client.poll_transmit_gather(*now, &mut out, 20, &mut gather) {
                    let mut datagrams = up[index].on_batch(&gather, &out[..transmit.len], transmit.segment);
                    for datagram in datagrams.chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                        broker.handle_datagram(*now, SocketAddr::from(([127, 0, 0, 1], index as u16 + 1)), datagram);
                    }
                }
            }
            while let Some(transmit) = broker.poll_transmit_gather(*now, &mut out, &mut gather) {
                let index = usize::from(transmit.to.port()) - 1;
                let mut datagrams = down[index].on_batch(&gather, &out[..transmit.len], transmit.segment);
                for datagram in datagrams.chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                    clients[index].handle_datagram_with(*now, datagram, |_, arrived| match arrived {
                        Arrived::Whole(frame) => got[index].push(frame),
                        _ => lent[index] += arrived.count(),
                    });
                    while clients[index].poll_event().is_some() {}
                }
            }
            while broker.poll_event().is_some() {}
        }
    }

    /// Publishes one message, and forgets what was sent before.
    fn publish(&mut self, payload: &Bytes) {
        self.publish_in(Lane::NORMAL, payload);
    }

    fn publish_in(&mut self, lane: Lane, payload: &Bytes) {
        self.up.iter_mut().chain(&mut self.down).for_each(|sent| *sent = Sent::default());
        self.clients[0].publish_bytes(self.now, lane, "frames.1", payload).unwrap();
        self.carry();
    }
}

#[test]
fn a_long_message_goes_to_the_system_from_where_it_lies() {
    let mut world = World::new(false);
    let payload = Bytes::from((0..LEN).map(|at| at as u8).collect::<Vec<u8>>());
    world.publish(&payload);
    let published = payload.as_ptr_range();
    let up = &world.up[0];
    assert!(up.lent.iter().all(|(at, _)| (published.start.addr()..published.end.addr()).contains(at)));
    assert!(up.lent_bytes() >= LEN / 100 * 95, "{} of {} bytes", up.lent_bytes(), up.bytes);
    // For all subscribers from the same place.
    let [first, second] = [&world.down[1], &world.down[2]];
    assert!(first.lent_bytes() >= LEN / 100 * 95, "{} of {} bytes", first.lent_bytes(), first.bytes);
    assert_eq!(first.lent, second.lent);
    for got in &world.got[1..] {
        assert!(matches!(&got[..], [frame] if frame.ends_with(&payload)));
    }
    // Several datagrams go in one call.
    for sent in [&world.up[0], first, second] {
        assert!(sent.calls * 2 <= sent.datagrams, "{} datagrams in {} calls", sent.datagrams, sent.calls);
    }
    // Whoever published it has it alone again once the server has all of it.
    assert!(payload.is_unique());
}

#[test]
fn what_is_sealed_is_written_to_the_buffer() {
    let mut world = World::new(true);
    let payload = Bytes::from(vec![7; LEN]);
    world.publish(&payload);
    assert!(world.got[1..].iter().all(|got| matches!(&got[..], [frame] if frame.ends_with(&payload))));
    assert!(world.up.iter().chain(&world.down).all(|sent| sent.lent.is_empty()));
}

#[test]
fn many_short_messages_go_to_the_system_from_where_they_were_put_together() {
    let mut world = World::new(false);
    world.up.iter_mut().chain(&mut world.down).for_each(|sent| *sent = Sent::default());
    let payload = [7; 128];
    let count = 2_000;
    for _ in 0..count {
        world.clients[0].publish(world.now, "frames.1", &payload).unwrap();
    }
    world.carry();
    assert!(world.got[1..].iter().all(Vec::is_empty) && world.lent[1..].iter().all(|got| *got == count));
    for sent in [&world.up[0], &world.down[1], &world.down[2]] {
        // A datagram takes a bit of what was put together next, which is copied if it is short.
        assert!(sent.lent_bytes() >= sent.bytes / 100 * 80, "{} of {} bytes", sent.lent_bytes(), sent.bytes);
    }
}

#[test]
fn a_long_message_of_another_lane_goes_to_the_system_from_where_it_lies() {
    let mut world = World::new(false);
    let payload = Bytes::from((0..LEN).map(|at| at as u8).collect::<Vec<u8>>());
    world.publish_in(Lane::BULK, &payload);
    // Lane 0 as well, once it says so.
    world.publish(&payload);
    assert!(world.got[1..].iter().all(|got| got.len() == 2 && got.iter().all(|frame| frame.ends_with(&payload))));
    world.publish_in(Lane::BULK, &payload);
    for sent in [&world.up[0], &world.down[1], &world.down[2]] {
        assert!(sent.lent_bytes() >= LEN / 100 * 95, "{} of {} bytes", sent.lent_bytes(), sent.bytes);
    }
    assert!(world.got[1..].iter().all(|got| got.len() == 3 && got[2].ends_with(&payload)));
}
