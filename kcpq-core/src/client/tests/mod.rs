//! Clients in virtual time, on all stores there are. A microcontroller's has no allocator and so no broker: there a scripted
//! server is the other end.

mod alone;
mod echo;
#[cfg(feature = "alloc")]
mod many;
#[cfg(feature = "alloc")]
mod push;
#[cfg(feature = "alloc")]
mod world;

use alloc::boxed::Box;

use super::*;

use crate::datagram::{self, Framing};
use crate::frame;
use crate::session::Transmit;
use crate::sim;
use crate::store::Lent;
#[cfg(feature = "alloc")]
use crate::store::{Heap, Heap as Any};

/// The store of whatever may have either: the allocator's if there is one.
#[cfg(not(feature = "alloc"))]
type Any = Lent<'static>;

type Pocket = Memory<1376, 32, 4096, 100_000, 8>;

/// Makes clients: the stories are told once for each store.
trait Make: FrameStore {
    fn client(config: Config, seed: u64) -> Client<Self>;

    /// Datagrams to be sent, in the way of a driver for this store.
    fn transmit(client: &mut Client<Self>, now: Instant, out: &mut [u8]) -> Option<Transmit>;
}

#[cfg(feature = "alloc")]
impl Make for Heap {
    fn client(config: Config, seed: u64) -> Client<Self> {
        Client::new(config, seed, Parts::heap(&config))
    }

    fn transmit(client: &mut Client<Self>, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let longest = client.max_datagram();
        let transmit = client.poll_transmit_batch(now, out, 5)?;
        let full = |each| each <= longest && each + crate::kcp::HEADER > longest;
        assert!(transmit.segment.is_none_or(|each| full(each) && transmit.len > each && transmit.len <= 5 * each));
        assert_eq!(transmit.asks, transmit.segment.is_none() && transmit.len > longest);
        Some(transmit)
    }
}

impl Make for Lent<'static> {
    fn client(mut config: Config, seed: u64) -> Client<Self> {
        config.kcp.send_window = config.kcp.send_window.min(32);
        config.kcp.recv_window = config.kcp.recv_window.min(32);
        config.queue = 4096;
        let client = Client::new(config, seed, Box::leak(Box::new(Pocket::new())).lend());
        #[cfg(feature = "lanes")]
        let client = {
            let (mut client, memory) = (client, Box::leak(Box::new(LaneMemory::<3, 20_000, 32>::new())));
            client.lend_lanes(memory).unwrap();
            client
        };
        #[cfg(feature = "confirm")]
        let client = {
            let (mut client, memory) = (client, Box::leak(Box::new(ConfirmMemory::<8>::new())));
            client.lend_confirms(memory).unwrap();
            client
        };
        client
    }

    fn transmit(client: &mut Client<Self>, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        Some(Transmit { len: client.poll_transmit(now, out)?, segment: None, asks: false })
    }
}

const CLEAN: sim::Config = sim::Config::clean(Duration::from_millis(10));
const BAD: sim::Config = sim::Config { loss: 0.1, duplicate: 0.05, jitter: Duration::from_millis(30), ..CLEAN };

/// The session of a server that says what a test wants, as an original one could.
fn server(conv: u32) -> Session<Any> {
    Session::new(conv, crate::kcp::Config::GAMES, frame::Limits::KCPQ, Link::new(Framing::Plain, 1400, 0), parts())
}

#[cfg(feature = "alloc")]
fn parts() -> session::Parts<Any> {
    Parts::heap(&Config::default()).session
}

#[cfg(not(feature = "alloc"))]
fn parts() -> session::Parts<Any> {
    Box::leak(Box::new(Memory::<1376, 32, 20_000, 100_000, 1>::new())).lend().session
}
