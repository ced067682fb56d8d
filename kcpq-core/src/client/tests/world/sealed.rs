//! Sealed sessions: client and broker, and somebody between them who can do everything but compute keys.

use super::*;
use crate::access::{Access, Client as Known, Group, Limits, Permissions, Proof, Rules};
use crate::broker::Keys;
use crate::header::{HEADER, kind, kind_of};
use crate::seal::{Cipher, PrivateKey, SharedSecret, Token, Trust};

fn server_key() -> PrivateKey {
    PrivateKey::from_bytes(&[1; 32])
}

fn secret() -> SharedSecret {
    SharedSecret::from_bytes(&[2; 32])
}

fn identity() -> Trust {
    Trust::Identity { key: PrivateKey::from_bytes(&[3; 32]), server: server_key().public() }
}

fn broker(life: u64) -> Broker<SocketAddr> {
    let keys = Keys { key: Some(server_key()), secret: Some(secret()) };
    Broker::new(broker::Config::default(), life).with_secret(&[7; 32]).with_keys(keys, &[life as u8; 32])
}

fn world<S: Make>() -> World<S> {
    let mut world = World::new(broker::Config::default());
    world.broker = broker(1);
    world
}

impl<S: Make> World<S> {
    fn add_sealed(&mut self, trust: Trust, cipher: Cipher, link: sim::Config) -> usize {
        let seed = self.nodes.len() as u8;
        self.add_with(Config::default(), link, |client| client.with_keys(trust, cipher, &[seed; 32]).unwrap())
    }
}

/// Everything that anybody who listens has seen of a sealed session is a handshake or sealed.
fn is_sealed(datagram: &[u8]) -> bool {
    let kind = datagram.first_chunk::<HEADER>().map(kind_of);
    matches!(kind, Some(kind::INITIAL | kind::REPLY | kind::RETRY | kind::SEALED | kind::SEALED_ODD | kind::RESET))
}

fn travels<S: Make>(trust: &Trust, cipher: Cipher, link: sim::Config) {
    let mut world = world::<S>();
    let sub = world.add_sealed(trust.clone(), cipher, link);
    let publisher = world.add_sealed(trust.clone(), cipher, link);
    let id = world.subscribe(sub, "a.*");
    let payload = |n: u32| vec![n as u8; 1 + n as usize * 7 % 300];
    for n in 0..200 {
        world.publish(publisher, "a.b", &payload(n)).unwrap();
        world.run_for(Duration::from_millis(3));
    }
    world.run_until("all messages", |world| world.nodes[sub].log.payloads(id).len() == 200);
    assert!(world.nodes[sub].log.payloads(id).iter().enumerate().all(|(n, got)| *got == payload(n as u32)));
    assert_eq!(world.broker.stats().sealed_sessions_opened, 2);
    assert!(world.seen.iter().all(|datagram| is_sealed(datagram)), "something went in the clear");
    world.nodes[publisher].client.close(world.now);
    world.run_until("the end", |world| world.nodes[publisher].log.saw("Closed") == 1);
    assert_eq!(world.broker.sessions(), 1, "its CLOSE was understood");
}

#[test]
fn messages_travel_in_sealed_sessions_whoever_knows_whom_by_what() {
    let server = server_key().public();
    for trust in [identity(), Trust::Anonymous { server }, token(5), Trust::Shared { secret: secret() }] {
        for link in [CLEAN, BAD] {
            travels::<Heap>(&trust, Cipher::ChaChaPoly, link);
        }
        travels::<Heap>(&trust, Cipher::AesGcm, CLEAN);
    }
    travels::<Lent<'static>>(&identity(), Cipher::ChaChaPoly, BAD);
}

#[test]
fn the_first_message_comes_as_early_as_in_a_plain_session() {
    let arrival = |sealed: bool| {
        let mut world = world::<Heap>();
        let add = |world: &mut World<Heap>| match sealed {
            true => world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN),
            false => world.add(Config::default(), CLEAN),
        };
        let sub = add(&mut world);
        let id = world.subscribe(sub, "a");
        let begun = world.now;
        let publisher = add(&mut world);
        world.run_until("the connection", |world| world.nodes[publisher].log.saw("Connected") == 1);
        world.publish(publisher, "a", b"first").unwrap();
        world.run_until("the message", |world| !world.nodes[sub].log.payloads(id).is_empty());
        world.now.since(begun)
    };
    assert_eq!(arrival(true), arrival(false));
}

#[test]
fn who_does_not_know_the_keys_gets_silence() {
    let mut world = world::<Heap>();
    let other = PrivateKey::from_bytes(&[9; 32]).public();
    let strangers = [
        Trust::Anonymous { server: other },
        Trust::Shared { secret: SharedSecret::from_bytes(&[9; 32]) },
        Trust::Identity { key: PrivateKey::from_bytes(&[3; 32]), server: other },
        Trust::Token { token: Token::from_bytes(&[5; 32]), server: other },
    ];
    for trust in strangers {
        let node = world.add_sealed(trust, Cipher::ChaChaPoly, CLEAN);
        world.run_until("it gives up", |world| world.nodes[node].log.saw("Disconnected") > 0);
        assert_eq!(world.nodes[node].down.stats().sent, 0);
    }
    assert_eq!(world.broker.sessions(), 0);
    assert!(world.broker.stats().strangers >= 3);
    // A server without keys does not answer sealed clients either.
    world.broker = Broker::new(broker::Config::default(), 1);
    let node = world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN);
    world.run_until("it gives up", |world| world.nodes[node].log.saw("Disconnected") > 0);
    assert_eq!(world.broker.sessions(), 0);
}

#[test]
fn a_sealed_session_moves_and_comes_back_after_a_restart() {
    let mut world = world::<Heap>();
    let sub = world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN);
    let publisher = world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN);
    let id = world.subscribe(sub, "a");
    for n in 0..100_u32 {
        world.publish(publisher, "a", &n.to_be_bytes()).unwrap();
        world.run_for(Duration::from_millis(10));
        if n == 50 {
            let node = &mut world.nodes[sub];
            node.addr.set_port(node.addr.port() + 1000);
            node.down = SimLink::new(CLEAN, 3);
        }
    }
    world.run_for(Duration::from_secs(1));
    assert!(
        world.nodes[sub].log.payloads(id).iter().copied().eq((0..100_u32)
            .map(u32::to_be_bytes)
            .collect::<Vec<_>>()
            .iter()
            .map(|n| &n[..]))
    );
    assert_eq!(world.broker.stats().sessions_moved, 1);
    world.broker = broker(2);
    world.publish(publisher, "a", b"lost or not").unwrap();
    world.run_until("both are back", |world| world.broker.stats().subscriptions == 1 && world.broker.sessions() >= 2);
    world.run_for(Duration::from_secs(1));
    world.publish(publisher, "a", b"again").unwrap();
    world.run_until("it goes on", |world| world.nodes[sub].log.payloads(id).last() == Some(&&b"again"[..]));
    assert!(world.nodes[publisher].client.stats().reset_hints > 0, "it was told");
}

/// Whatever a man in the middle makes of what he sees, nothing comes of it that was not said, nor twice, and the session
/// lives.
#[test]
fn nothing_is_altered_repeated_or_ended_by_who_is_in_the_middle() {
    let mut world = world::<Heap>();
    let sub = world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN);
    let publisher = world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN);
    let id = world.subscribe(sub, "a");
    let mut rng = Rng::with_seed(1);
    for n in 0..40_u32 {
        world.publish(publisher, "a", &n.to_be_bytes()).unwrap();
        world.run_for(Duration::from_millis(10));
        let seen: Vec<_> = world.seen.iter().rev().take(12).cloned().collect();
        for datagram in seen {
            let mut forgeries = vec![datagram.clone(), datagram[..datagram.len() - 1].to_vec()];
            for bit in 0..datagram.len() * 8 {
                let mut altered = datagram.clone();
                altered[bit / 8] ^= 1 << (bit % 8);
                forgeries.push(altered);
            }
            let mut reset = datagram.clone();
            reset.resize(HEADER + 16, rng.u8(..));
            reset[4] = kind::RESET;
            forgeries.push(reset);
            for forged in forgeries {
                for node in 0..2 {
                    let from = world.nodes[node].addr;
                    world.broker.handle_datagram(world.now, from, &mut forged.clone());
                    world.nodes[node].client.handle_datagram(world.now, &mut forged.clone());
                }
            }
        }
    }
    world.run_for(Duration::from_secs(2));
    let got: Vec<_> = world.nodes[sub].log.payloads(id).iter().map(|payload| payload.to_vec()).collect();
    assert_eq!(got, (0..40_u32).map(|n| n.to_be_bytes().to_vec()).collect::<Vec<_>>());
    for node in 0..2 {
        assert_eq!(world.nodes[node].client.stats().reconnects, 0);
    }
    assert_eq!((world.broker.sessions(), world.broker.stats().sessions_moved), (2, 0));
}

#[test]
fn plain_clients_and_sealed_ones_hear_each_other() {
    let mut world = world::<Heap>();
    let sealed = world.add_sealed(identity(), Cipher::AesGcm, CLEAN);
    let plain = world.add(Config::default(), CLEAN);
    let (to_sealed, to_plain) = (world.subscribe(sealed, "a"), world.subscribe(plain, "b"));
    world.publish(plain, "a", b"to sealed").unwrap();
    world.publish(sealed, "b", b"to plain").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[sealed].log.payloads(to_sealed), [b"to sealed"]);
    assert_eq!(world.nodes[plain].log.payloads(to_plain), [b"to plain"]);
}

#[test]
fn under_load_a_client_shows_that_it_is_where_it_says_it_is() {
    let mut world = world::<Heap>();
    // First messages with the right mac1, each from an address of its own that nobody is at.
    for n in 0..5_000_u32 {
        let config = Config::default();
        let seed: [u8; 32] = core::array::from_fn(|at| (n >> (at % 4 * 8)) as u8);
        let mut client = Client::new(config, u64::from(n), Parts::heap(&config))
            .with_keys(identity(), Cipher::ChaChaPoly, &seed)
            .unwrap();
        client.connect(world.now);
        let mut out = [0; 1_500];
        let len = client.poll_transmit(world.now, &mut out).unwrap();
        let forged = SocketAddr::from((Ipv4Addr::from(n), 1));
        world.broker.handle_datagram(world.now, forged, &mut out[..len]);
        while world.broker.poll_transmit(world.now, &mut [0; 2_000]).is_some() {}
    }
    let stats = world.broker.stats();
    assert!(stats.retries > 4_000, "{stats:?}");
    let node = world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN);
    let begun = world.now;
    world.run_until("the connection", |world| world.nodes[node].log.saw("Connected") == 1);
    let took = world.now.since(begun);
    assert!(took <= CLEAN.delay.saturating_mul(4), "{took:?}: two round trips, one of them for the cookie");
}

fn token(seed: u8) -> Trust {
    Trust::Token { token: Token::from_bytes(&[seed; 32]), server: server_key().public() }
}

/// Whoever has the token 5 or the key of [`identity`] may publish to `a`, in one session at a time; `sealed` clients
/// may not.
fn rules(sealed: bool) -> Access {
    let nothing = Rules { allow: Some(vec![]), deny: vec![] };
    let all = Permissions { publish: nothing, ..Permissions::default() };
    let one = Limits { sessions: Some(1), ..Limits::default() };
    let known = |name: &str, proof| Known { name: name.into(), proof, group: 1 };
    let hash = *Token::from_bytes(&[5; 32]).hash().as_bytes();
    let key = *PrivateKey::from_bytes(&[3; 32]).public().as_bytes();
    Access {
        groups: vec![
            Group { name: "all".into(), permissions: all, ..Group::default() },
            Group { name: "known".into(), limits: one, ..Group::default() },
        ],
        clients: vec![known("token", Proof::Token(hash)), known("key", Proof::Key(key))],
        sealed: sealed.then_some(0),
        ..Access::default()
    }
}

#[test]
fn a_token_makes_an_identity() {
    let mut world = world::<Heap>();
    world.broker.set_access(world.now, Some(&rules(true))).unwrap();
    let [known, other] = [5, 6].map(|seed| world.add_sealed(token(seed), Cipher::ChaChaPoly, CLEAN));
    let id = world.subscribe(other, "a");
    world.publish(known, "a", b"known").unwrap();
    world.publish(other, "a", b"worth as much as none").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[other].log.payloads(id), [b"known"]);
    assert_eq!(world.broker.stats().messages_denied, 1);
    // Where nobody is let in without a name it is silence.
    world.broker.set_access(world.now, Some(&rules(false))).unwrap();
    world.run_until("the other has to go", |world| {
        world.nodes[other].log.saw("Disconnected { why: ByServer(Denied)") > 0
    });
    world.run_until("silence", |world| world.nodes[other].log.saw("Disconnected { why: NoAnswer") > 0);
    assert_eq!(world.nodes[known].log.saw("Disconnected"), 0);
}

#[test]
fn who_is_known_is_told_why_it_is_not_let_in() {
    let mut world = world::<Heap>();
    world.broker.set_access(world.now, Some(&rules(false))).unwrap();
    for trust in [identity(), token(5)] {
        let first = world.add_sealed(trust.clone(), Cipher::ChaChaPoly, CLEAN);
        world.run_until("the first", |world| world.nodes[first].log.saw("Connected") == 1);
        let refused = world.broker.stats().sessions_refused;
        let second = world.add_sealed(trust, Cipher::ChaChaPoly, BAD);
        world.run_until("a word", |world| world.nodes[second].log.saw("Disconnected { why: ByServer(Limit)") > 0);
        assert_eq!(world.nodes[second].log.saw("Connected"), 0, "it never was");
        assert!(world.broker.stats().sessions_refused > refused);
        // And when there is room again it comes in by itself.
        world.nodes[first].client.close(world.now);
        world.run_until("the second", |world| world.nodes[second].log.saw("Connected") == 1);
    }
    // The server stops: who comes now hears that.
    world.broker.drain(world.now);
    let late = world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN);
    world.run_until("a word", |world| world.nodes[late].log.saw("Disconnected { why: ByServer(Shutdown)") > 0);
}

#[test]
fn who_finds_the_place_taken_that_it_was_promised_is_told_so() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let config = broker::Config { max_sessions: 1, ..broker::Config::default() };
    let keys = Keys { key: Some(server_key()), secret: None };
    world.broker = Broker::new(config, 1).with_keys(keys, &[1; 32]);
    // Both are welcomed before one of them has confirmed its session. On this link what is sent later comes later.
    let link = sim::Config { bandwidth: Some(1_000_000), ..CLEAN };
    let nodes = [identity(), token(1)].map(|trust| world.add_sealed(trust, Cipher::ChaChaPoly, link));
    world.run_until("a word", |world| {
        nodes.iter().any(|node| world.nodes[*node].log.saw("Disconnected { why: ByServer(Limit)") > 0)
    });
    assert_eq!((world.broker.sessions(), world.broker.stats().sessions_refused), (1, 1));
    // The next attempt is told at once.
    world.run_until("again", |world| world.broker.stats().sessions_refused > 1);
    assert!(nodes.iter().any(|node| world.nodes[*node].log.saw("Connected") == 1));
}

#[test]
fn handshakes_are_as_many_as_the_configuration_says() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let handshakes = broker::HandshakeLimits { before_retry: 0, per_second: 1, unconfirmed: 1 };
    let keys = Keys { key: Some(server_key()), secret: None };
    world.broker = Broker::new(broker::Config { handshakes, ..broker::Config::default() }, 1).with_keys(keys, &[1; 32]);
    for count in 1..=3 {
        let node = world.add_sealed(identity(), Cipher::ChaChaPoly, CLEAN);
        world.run_until("the connection", |world| world.nodes[node].log.saw("Connected") == 1);
        let stats = world.broker.stats();
        assert!(stats.retries >= count, "each has to show a cookie: {stats:?}");
        assert_eq!(stats.handshakes_dropped > 0, count > 1, "one is opened in a second: {stats:?}");
        assert!(world.now.as_micros() >= 1_000_000 * (count - 1));
    }
}
