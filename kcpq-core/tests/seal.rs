//! Sealed sessions as a whole: two ends through the public API, and somebody between them.

use std::collections::BTreeMap;

use kcpq_core::seal::{
    Cipher, Cookies, Credentials, HEADER, INITIAL_MAX, Identity, Initiator, OpenError, PAYLOAD_MAX, PREVIOUS_FOR,
    Pattern, PrivateKey, PublicKey, REKEY_AFTER, REKEY_INTERVAL, REPLY_MAX, Rejected, ReplyError, ResetToken,
    ResetTokens, Responder, SEAL_LIMIT, SealError, SharedSecret, StartError, Suite, TAG, Token, Transport, Unconfirmed,
    header, kind,
};
use kcpq_core::{Duration, Instant};

const CIPHERS: [Cipher; 2] = [Cipher::ChaChaPoly, Cipher::AesGcm];
const PATTERNS: [Pattern; 4] = [Pattern::Ik, Pattern::Nk, Pattern::NkToken, Pattern::NnPsk0];
const NOW: Instant = Instant::from_millis(5_000);
const ADDRESS: &[u8] = &[192, 0, 2, 1, 0x0f, 0xa0];
const ID: u64 = 0x1122_3344_5566_7788;

/// The last bytes of an INITIAL are looked at only when a cookie is asked for.
const MAC2: usize = 16;

struct World {
    client: PrivateKey,
    server: PublicKey,
    token: Token,
    secret: SharedSecret,
    responder: Responder,
}

impl World {
    fn new() -> Self {
        let server = PrivateKey::from_bytes(&[2; 32]);
        let secret = SharedSecret::from_bytes(&[3; 32]);
        Self {
            client: PrivateKey::from_bytes(&[1; 32]),
            server: server.public(),
            token: Token::from_bytes(&[6; 32]),
            responder: Responder::new(Some(server), Some(secret.clone())),
            secret,
        }
    }

    fn credentials(&self, pattern: Pattern) -> Credentials<'_> {
        match pattern {
            Pattern::Ik => Credentials::Identity { key: &self.client, server: &self.server },
            Pattern::Nk => Credentials::Anonymous { server: &self.server },
            Pattern::NkToken => Credentials::Token { token: &self.token, server: &self.server },
            Pattern::NnPsk0 => Credentials::Shared { secret: &self.secret },
        }
    }

    fn initiator(&self, suite: Suite) -> Initiator {
        Initiator::new(ID, self.credentials(suite.pattern), suite.cipher, &[4; 32], b"HELLO").unwrap()
    }

    /// What the server makes of an INITIAL.
    fn respond(&self, initial: &[u8]) -> Result<Unconfirmed, Rejected> {
        let mut datagram = initial.to_vec();
        let pending = self.responder.open(self.responder.look(&mut datagram)?)?;
        assert_eq!(pending.hello(), b"HELLO");
        Ok(pending.reply(&[5; 32], b"WELCOME").unwrap())
    }

    /// Both ends of a session, of which the first datagram has been exchanged.
    fn session(&self, suite: Suite) -> (Transport, Transport) {
        let mut initiator = self.initiator(suite);
        let mut unconfirmed = self.respond(initiator.datagram()).unwrap();
        let mut reply = unconfirmed.datagram().to_vec();
        let (mut client, welcome): (Transport, _) = initiator.handle_reply(&mut reply).unwrap();
        assert_eq!(welcome, b"WELCOME");
        let mut first = seal(&mut client, NOW, 0, b"first");
        let (head, body) = split(&mut first);
        let (server, opened) = unconfirmed.confirm(NOW, &head, body).unwrap();
        assert_eq!((opened.number, &*opened.body), (0, &b"first"[..]));
        (client, server)
    }
}

fn suites() -> impl Iterator<Item = Suite> {
    PATTERNS.into_iter().flat_map(|pattern| CIPHERS.map(|cipher| Suite { pattern, cipher }))
}

/// A whole sealed datagram.
fn seal(by: &mut Transport, now: Instant, number: u64, text: &[u8]) -> Vec<u8> {
    let mut head = header(ID, 0, 0);
    let mut body = [text, &[0; TAG]].concat();
    let len = by.seal(now, number, &mut head, &mut body, text.len()).unwrap();
    assert_eq!(len, body.len());
    [&head[..], &body].concat()
}

fn split(datagram: &mut [u8]) -> ([u8; HEADER], &mut [u8]) {
    let (head, body) = datagram.split_first_chunk_mut().unwrap();
    (*head, body)
}

fn open(by: &mut Transport, now: Instant, datagram: &[u8]) -> Result<(u64, Vec<u8>), OpenError> {
    let mut datagram = datagram.to_vec();
    let Some((head, body)) = datagram.split_first_chunk_mut() else { return Err(OpenError::Malformed) };
    by.open(now, &*head, body).map(|opened| (opened.number, opened.body.to_vec()))
}

/// Every datagram that differs from this one by a bit, by missing bytes at its end, or by one more.
fn damaged(datagram: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let bits = (0..8 * datagram.len()).map(|bit| {
        let mut copy = datagram.to_vec();
        copy[bit / 8] ^= 1 << (bit % 8);
        copy
    });
    let cuts = (0..datagram.len()).map(|len| datagram[..len].to_vec());
    bits.chain(cuts).chain([[datagram, &[0]].concat()])
}

#[test]
fn all_suites_make_sessions_and_tell_who_the_client_is() {
    let world = World::new();
    for suite in suites() {
        let initiator = world.initiator(suite);
        let mut datagram = initiator.datagram().to_vec();
        let initial = world.responder.look(&mut datagram).unwrap();
        assert_eq!((initial.id(), initial.suite()), (ID, suite));
        let pending = world.responder.open(initial).unwrap();
        let identity = match suite.pattern {
            Pattern::Ik => Identity::Key(world.client.public()),
            Pattern::Nk => Identity::Anonymous,
            Pattern::NkToken => Identity::Token(world.token.hash()),
            Pattern::NnPsk0 => Identity::Shared,
        };
        assert_eq!(pending.identity(), identity);

        let (mut client, mut server) = world.session(suite);
        for number in 0..5 {
            let sealed = seal(&mut server, NOW, number, b"to the client");
            assert_eq!(open(&mut client, NOW, &sealed), Ok((number, b"to the client".to_vec())));
            let sealed = seal(&mut client, NOW, number + 1, b"");
            assert_eq!(sealed.len(), HEADER + TAG);
            assert_eq!(open(&mut server, NOW, &sealed), Ok((number + 1, Vec::new())));
        }
    }
}

#[test]
fn a_first_message_that_was_altered_opens_nothing() {
    let world = World::new();
    for suite in suites() {
        let initiator = world.initiator(suite);
        let initial = initiator.datagram();
        for other in damaged(initial) {
            let differs_in_mac2_alone =
                other.len() == initial.len() && initial[..initial.len() - MAC2] == other[..other.len() - MAC2];
            assert_eq!(world.respond(&other).is_ok(), differs_in_mac2_alone, "{suite:?} {other:02x?}");
        }
    }
}

/// Somebody who knows the server's public key, and so can make `mac1`, alters the rest.
#[test]
fn a_first_message_that_was_altered_and_signed_again_opens_nothing() {
    let world = World::new();
    let suite = Suite { pattern: Pattern::Ik, cipher: Cipher::ChaChaPoly };
    let initiator = world.initiator(suite);
    let initial = initiator.datagram();
    let signed = initial.len() - 2 * MAC2;
    let mac_key = blake2s(None, &[b"kcpq sealed 1 mac1 public key", &world.server.as_bytes()[..]].concat());
    let sign = |message: &[u8]| {
        let mac1 = &blake2s(Some(&mac_key), message)[..16];
        [message, mac1, &[0; MAC2]].concat()
    };
    assert_eq!(sign(&initial[..signed]), initial, "mac1 is what the specification says");
    for other in damaged(&initial[..signed]) {
        assert!(world.respond(&sign(&other)).is_err(), "{other:02x?}");
    }
}

fn blake2s(key: Option<&[u8]>, data: &[u8]) -> [u8; 32] {
    use blake2::digest::{FixedOutput, Update};
    let mut hasher = blake2::Blake2sMac256::new_with_salt_and_personal(key, &[], &[]).unwrap();
    hasher.update(data);
    hasher.finalize_fixed().into()
}

#[test]
fn an_answer_that_was_altered_is_refused_and_the_true_one_taken_after_it() {
    let world = World::new();
    for suite in suites() {
        let mut initiator = world.initiator(suite);
        let unconfirmed = world.respond(initiator.datagram()).unwrap();
        let reply = unconfirmed.datagram();
        for mut other in damaged(reply) {
            assert!(initiator.handle_reply::<kcpq_core::seal::RustCrypto>(&mut other).is_err(), "{suite:?}");
        }
        let mut reply = reply.to_vec();
        let (_, welcome): (Transport, _) = initiator.handle_reply(&mut reply).unwrap();
        assert_eq!(welcome, b"WELCOME");
    }
}

/// The keys of a session are handed out once: numbers that begin anew would be nonces used twice.
#[test]
fn an_answer_that_comes_twice_makes_one_session() {
    let world = World::new();
    for suite in suites() {
        let mut initiator = world.initiator(suite);
        let unconfirmed = world.respond(initiator.datagram()).unwrap();
        assert!(initiator.handle_reply::<kcpq_core::seal::RustCrypto>(&mut unconfirmed.datagram().to_vec()).is_ok());
        let mut reply = unconfirmed.datagram().to_vec();
        let again: Result<(Transport, _), _> = initiator.handle_reply(&mut reply);
        assert_eq!(again.map(|_| ()), Err(Rejected::Repeated));
    }
}

#[test]
fn answers_of_another_handshake_and_of_another_server_are_refused() {
    let world = World::new();
    let impostor = World { responder: Responder::new(Some(PrivateKey::from_bytes(&[9; 32])), None), ..World::new() };
    for suite in suites() {
        let mut initiator = world.initiator(suite);
        let other = Initiator::new(ID, world.credentials(suite.pattern), suite.cipher, &[6; 32], b"HELLO").unwrap();
        let mut reply = world.respond(other.datagram()).unwrap().datagram().to_vec();
        let taken: Result<(Transport, _), _> = initiator.handle_reply(&mut reply);
        assert_eq!(taken.map(|_| ()), Err(Rejected::Forged));
        assert!(impostor.respond(initiator.datagram()).is_err());
    }
}

/// It is recorded and sent again, later and from elsewhere: there is a REPLY, and nothing comes of it.
#[test]
fn a_first_message_that_is_sent_again_by_somebody_else_confirms_nothing() {
    let world = World::new();
    for suite in suites() {
        let mut initiator = world.initiator(suite);
        let initial = initiator.datagram().to_vec();
        let mut first = world.respond(&initial).unwrap();
        let (mut client, _): (Transport, _) = initiator.handle_reply(&mut first.datagram().to_vec()).unwrap();
        let sealed: Vec<_> = (0..3).map(|number| seal(&mut client, NOW, number, b"recorded")).collect();
        assert!(first.confirm(NOW, &split(&mut sealed[0].clone()).0, split(&mut sealed[0].clone()).1).is_ok());

        let mut datagram = initial.clone();
        let pending = world.responder.open(world.responder.look(&mut datagram).unwrap()).unwrap();
        let mut second: Unconfirmed = pending.reply(&[77; 32], b"WELCOME").unwrap();
        for datagram in &sealed {
            let mut datagram = datagram.clone();
            let (head, body) = split(&mut datagram);
            assert_eq!(second.confirm(NOW, &head, body).map(|_| ()), Err(OpenError::Forged));
        }
    }
}

#[test]
fn a_repetition_is_recognised_before_anything_is_computed_for_it() {
    let world = World::new();
    for suite in suites() {
        let initiator = world.initiator(suite);
        let unconfirmed = world.respond(initiator.datagram()).unwrap();
        let mut again = initiator.datagram().to_vec();
        assert!(unconfirmed.answers(&world.responder.look(&mut again).unwrap()));
        let other = Initiator::new(ID, world.credentials(suite.pattern), suite.cipher, &[6; 32], b"HELLO").unwrap();
        let mut other = other.datagram().to_vec();
        assert!(!unconfirmed.answers(&world.responder.look(&mut other).unwrap()));
    }
}

#[test]
fn who_does_not_know_the_public_key_gets_silence_for_one_hash() {
    let world = World::new();
    for cipher in CIPHERS {
        let server = PrivateKey::from_bytes(&[8; 32]).public();
        let stranger =
            Initiator::new(ID, Credentials::Anonymous { server: &server }, cipher, &[4; 32], b"HELLO").unwrap();
        assert_eq!(world.responder.look(&mut stranger.datagram().to_vec()).map(|_| ()), Err(Rejected::Stranger));
        let secret = SharedSecret::from_bytes(&[8; 32]);
        let stranger = Initiator::new(ID, Credentials::Shared { secret: &secret }, cipher, &[4; 32], b"HELLO").unwrap();
        assert_eq!(world.responder.look(&mut stranger.datagram().to_vec()).map(|_| ()), Err(Rejected::Stranger));
    }
}

#[test]
fn a_server_takes_only_the_patterns_for_which_it_has_what_they_need() {
    let world = World::new();
    let with_key = Responder::new(Some(PrivateKey::from_bytes(&[2; 32])), None);
    let with_secret = Responder::new(None, Some(world.secret.clone()));
    for suite in suites() {
        let initiator = world.initiator(suite);
        let mut datagram = initiator.datagram().to_vec();
        assert_eq!(with_key.look(&mut datagram).is_ok(), suite.pattern != Pattern::NnPsk0);
        assert_eq!(with_secret.look(&mut datagram).is_ok(), suite.pattern == Pattern::NnPsk0);
    }
}

#[test]
fn a_cookie_is_good_for_its_address_its_id_and_its_time() {
    let world = World::new();
    let cookies = Cookies::new(&[7; 32]);
    for suite in suites() {
        let mut initiator = world.initiator(suite);
        let mut datagram = initiator.datagram().to_vec();
        let initial = world.responder.look(&mut datagram).unwrap();
        assert!(!cookies.has_cookie(NOW, &initial, ADDRESS));
        let retry = cookies.retry(NOW, &initial, ADDRESS);
        assert!(retry.len() < initiator.datagram().len());

        for other in damaged(&retry) {
            assert!(initiator.handle_retry(&other).is_err());
        }
        let untouched = initiator.datagram().to_vec();
        initiator.handle_retry(&retry).unwrap();
        assert_ne!(initiator.datagram(), untouched);
        let mut datagram = initiator.datagram().to_vec();
        let initial = world.responder.look(&mut datagram).unwrap();
        let later = |secs| NOW + Duration::from_secs(secs);
        assert!(cookies.has_cookie(NOW, &initial, ADDRESS));
        assert!(cookies.has_cookie(later(60), &initial, ADDRESS));
        assert!(!cookies.has_cookie(later(120), &initial, ADDRESS));
        assert!(!cookies.has_cookie(NOW, &initial, &[192, 0, 2, 1, 0x0f, 0xa1]));
        assert!(!Cookies::new(&[8; 32]).has_cookie(NOW, &initial, ADDRESS));
        for bit in 0..8 * MAC2 {
            let mut other = initiator.datagram().to_vec();
            let at = other.len() - 1 - bit / 8;
            other[at] ^= 1 << (bit % 8);
            assert!(!cookies.has_cookie(NOW, &world.responder.look(&mut other).unwrap(), ADDRESS));
        }

        // The handshake goes on with it.
        let unconfirmed = world.respond(initiator.datagram()).unwrap();
        assert!(initiator.handle_reply::<kcpq_core::seal::RustCrypto>(&mut unconfirmed.datagram().to_vec()).is_ok());

        // One for another's first message is none.
        let mut other = Initiator::new(ID, world.credentials(suite.pattern), suite.cipher, &[6; 32], b"HELLO").unwrap();
        assert_eq!(other.handle_retry(&retry), Err(Rejected::Forged));
    }
}

#[test]
fn payloads_are_as_long_as_they_may_be_and_no_longer() {
    let world = World::new();
    let begin = |len| Initiator::new(ID, world.credentials(Pattern::Ik), Cipher::AesGcm, &[4; 32], &vec![7; len]);
    assert_eq!(
        begin(PAYLOAD_MAX + 1).map(|_| ()),
        Err(StartError::TooLong { limit: PAYLOAD_MAX, actual: PAYLOAD_MAX + 1 })
    );
    let initiator = begin(PAYLOAD_MAX).unwrap();
    assert_eq!(initiator.datagram().len(), INITIAL_MAX);
    let reply = |initiator: &Initiator, len: usize| -> Result<Unconfirmed, ReplyError> {
        let mut datagram = initiator.datagram().to_vec();
        let initial = world.responder.look(&mut datagram).unwrap();
        world.responder.open(initial).unwrap().reply(&[5; 32], &vec![7; len])
    };
    assert_eq!(reply(&initiator, PAYLOAD_MAX).unwrap().datagram().len(), REPLY_MAX);
    assert!(matches!(reply(&initiator, PAYLOAD_MAX + 1), Err(ReplyError::TooLong { limit: REPLY_MAX, .. })));

    // Towards an address that may be forged, three times what came.
    let short = Initiator::new(ID, world.credentials(Pattern::Nk), Cipher::ChaChaPoly, &[4; 32], b"").unwrap();
    let limit = 3 * short.datagram().len();
    assert_eq!(reply(&short, limit - 60).unwrap().datagram().len(), limit);
    assert!(matches!(reply(&short, limit - 59), Err(ReplyError::TooLong { .. })));
}

#[test]
fn a_sealed_datagram_that_was_altered_opens_nothing_and_the_true_one_once() {
    let world = World::new();
    for suite in suites() {
        let (mut client, mut server) = world.session(suite);
        let sealed = seal(&mut client, NOW, 7, b"a message");
        let state = server.generations();
        for other in damaged(&sealed) {
            assert!(open(&mut server, NOW, &other).is_err(), "{other:02x?}");
        }
        assert_eq!(server.generations(), state);
        assert_eq!(open(&mut server, NOW, &sealed), Ok((7, b"a message".to_vec())));
        assert_eq!(open(&mut server, NOW, &sealed), Err(OpenError::Repeated));
        // Sent back to its sender it opens nothing: each direction has a key of its own.
        assert_eq!(open(&mut client, NOW, &sealed), Err(OpenError::Forged));
    }
}

#[test]
fn a_number_is_used_once() {
    let (mut client, _) = World::new().session(Suite { pattern: Pattern::Nk, cipher: Cipher::ChaChaPoly });
    let (mut head, mut body) = (header(ID, 0, 0), [0; 40]);
    assert_eq!(client.next_number(), 1);
    assert_eq!(client.seal(NOW, 0, &mut head, &mut body, 8), Err(SealError::Used { next: 1 }));
    assert_eq!(client.seal(NOW, 5, &mut head, &mut body, 25), Err(SealError::NoRoom { needed: 41, room: 40 }));
    assert_eq!(client.seal(NOW, 5, &mut head, &mut body, 41), Err(SealError::NoRoom { needed: 57, room: 40 }));
    assert_eq!(client.seal(NOW, 5, &mut head, &mut body, 24), Ok(40));
    assert_eq!(client.seal(NOW, 5, &mut head, &mut body, 24), Err(SealError::Used { next: 6 }));
    assert!(client.seal(NOW, u64::MAX, &mut head, &mut body, 24).is_err(), "the nonce of rekeying");
}

/// Loss, reordering, repetition, damage, gaps in the numbers, hours: what is opened was sealed, and once.
#[test]
fn whatever_the_network_does_what_is_opened_was_sealed_and_once() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let suite = suites().nth(rng.usize(..6)).unwrap();
        let (client, server) = World::new().session(suite);
        let mut ends = [client, server];
        let mut numbers = [1, 0];
        // Under way to each end, and what of it may still be opened.
        let mut flying: [Vec<Vec<u8>>; 2] = [Vec::new(), Vec::new()];
        let mut sealed: [BTreeMap<u64, Vec<u8>>; 2] = [BTreeMap::new(), BTreeMap::new()];
        let mut highest = [0, 0];
        let mut opened = 0;
        let mut now = NOW;
        for _ in 0..600 {
            now += match rng.u8(..20) {
                0 => Duration::from_secs(70),
                _ => Duration::from_millis(rng.u64(..500)),
            };
            let from = rng.usize(..2);
            let to = 1 - from;
            if rng.bool() {
                numbers[from] += if rng.u8(..10) == 0 { rng.u64(..REKEY_AFTER) } else { rng.u64(..3) };
                let text: Vec<u8> = (0..rng.usize(..50)).map(|_| rng.u8(..)).collect();
                flying[to].push(seal(&mut ends[from], now, numbers[from], &text));
                sealed[to].insert(numbers[from], text);
                numbers[from] += 1;
            }
            if flying[to].is_empty() {
                continue;
            }
            let at = if rng.u8(..4) == 0 { rng.usize(..flying[to].len()) } else { 0 };
            let mut datagram = flying[to][at].clone();
            match rng.u8(..10) {
                0 => {}
                1 => {
                    flying[to].remove(at);
                    continue;
                }
                2 => {
                    let byte = rng.usize(..datagram.len());
                    datagram[byte] ^= 1 << rng.u8(..8);
                    assert!(open(&mut ends[to], now, &datagram).is_err(), "seed {seed}");
                    continue;
                }
                _ => {
                    flying[to].remove(at);
                }
            }
            if let Ok((number, text)) = open(&mut ends[to], now, &datagram) {
                assert_eq!(sealed[to].remove(&number), Some(text), "seed {seed}: not sealed, or opened before");
                highest[to] = number.max(highest[to]);
                opened += 1;
            }
        }
        assert!(opened > 100, "seed {seed}: {opened}");
        // Both ends live on: what each seals now the other opens, if it is not out of what 24 bits tell.
        for from in 0..2 {
            let to = 1 - from;
            if numbers[from] - highest[to] < 1 << 23 {
                let datagram = seal(&mut ends[from], now, numbers[from], b"alive");
                assert_eq!(
                    open(&mut ends[to], now, &datagram).map(|(_, text)| text),
                    Ok(b"alive".to_vec()),
                    "seed {seed}"
                );
            }
        }
    }
}

#[test]
fn keys_are_replaced_after_a_time_and_the_server_follows() {
    for cipher in CIPHERS {
        let (mut client, mut server) = World::new().session(Suite { pattern: Pattern::Ik, cipher });
        let before = seal(&mut client, NOW, 1, b"overtaken");
        let lost = seal(&mut client, NOW, 2, b"overtaken by far");
        let mut now = NOW + REKEY_INTERVAL;
        let first = seal(&mut client, now, 3, b"new key");
        assert_eq!((before[4], first[4]), (kind::SEALED, kind::SEALED_ODD));
        assert_eq!((client.generations(), server.generations()), ((1, 0), (0, 0)));

        // The server does not know yet: what it seals is under its first key.
        let old = seal(&mut server, now, 0, b"old key");
        assert_eq!(open(&mut server, now, &first), Ok((3, b"new key".to_vec())));
        assert_eq!(server.generations(), (1, 1));
        assert_eq!(open(&mut server, now, &before), Ok((1, b"overtaken".to_vec())), "kept for a while");
        let new = seal(&mut server, now, 1, b"followed");
        assert_eq!((old[4], new[4]), (kind::SEALED, kind::SEALED_ODD));

        // The client begins no other generation before it has heard that; then it may.
        let again = seal(&mut client, now + REKEY_INTERVAL, 4, b"still the second key");
        assert_eq!(again[4], kind::SEALED_ODD);
        assert_eq!(open(&mut client, now, &new), Ok((1, b"followed".to_vec())));
        assert_eq!(open(&mut client, now, &old), Ok((0, b"old key".to_vec())));
        now += REKEY_INTERVAL;
        assert_eq!(open(&mut server, now, &again), Ok((4, b"still the second key".to_vec())));
        assert_eq!(open(&mut server, now, &lost), Err(OpenError::Forged), "its key is gone");
        let third = seal(&mut client, now, 5, b"third key");
        assert_eq!(third[4], kind::SEALED);
        assert_eq!(open(&mut server, now, &third), Ok((5, b"third key".to_vec())));
        assert_eq!((client.generations(), server.generations()), ((2, 1), (2, 2)));
    }
    const { assert!(PREVIOUS_FOR.as_micros() < REKEY_INTERVAL.as_micros()) };
}

#[test]
fn keys_are_replaced_after_a_number_of_datagrams_of_either_direction() {
    let suite = Suite { pattern: Pattern::Nk, cipher: Cipher::AesGcm };
    let (mut client, _) = World::new().session(suite);
    assert_eq!(seal(&mut client, NOW, REKEY_AFTER - 1, b"")[4], kind::SEALED);
    assert_eq!(seal(&mut client, NOW, REKEY_AFTER, b"")[4], kind::SEALED_ODD);

    let (mut client, mut server) = World::new().session(suite);
    let last = seal(&mut server, NOW, REKEY_AFTER - 1, b"");
    open(&mut client, NOW, &last).unwrap();
    assert_eq!(seal(&mut client, NOW, 1, b"")[4], kind::SEALED_ODD, "so many were received");
}

#[test]
fn a_key_seals_no_more_than_its_limit_when_the_other_side_does_not_follow() {
    let (mut client, mut server) = World::new().session(Suite { pattern: Pattern::Nk, cipher: Cipher::AesGcm });
    let (mut head, mut body) = (header(ID, 0, 0), [0; 40]);
    assert!(server.seal(NOW, SEAL_LIMIT - 1, &mut head, &mut body, 1).is_ok());
    assert_eq!(server.seal(NOW, SEAL_LIMIT, &mut head, &mut body, 1), Err(SealError::Exhausted));
    // The client begins a generation of its own accord, and then waits as well.
    assert!(client.seal(NOW, SEAL_LIMIT, &mut head, &mut body, 1).is_ok());
    assert_eq!(client.generations(), (1, 0));
    assert!(client.seal(NOW, 2 * SEAL_LIMIT - 1, &mut head, &mut body, 1).is_ok());
    assert_eq!(client.seal(NOW, 2 * SEAL_LIMIT, &mut head, &mut body, 1), Err(SealError::Exhausted));
}

#[test]
fn only_the_servers_own_reset_is_one() {
    let tokens = ResetTokens::of_key(&PrivateKey::from_bytes(&[2; 32]));
    let token = ResetToken::from_bytes(*tokens.token(ID).as_bytes());
    let reset = tokens.datagram(ID);
    assert!(token.is_in(ID, &reset));
    assert!(damaged(&reset).all(|other| !token.is_in(ID, &other)));
    assert!(!token.is_in(ID, &tokens.datagram(ID + 1)));
    assert!(!token.is_in(ID, &ResetTokens::new(&[2; 32]).datagram(ID)));
    assert!(reset.len() <= HEADER + TAG, "no longer than the shortest sealed datagram");
    let restarted = ResetTokens::of_key(&PrivateKey::from_bytes(&[2; 32]));
    assert_eq!(restarted.datagram(ID), reset);
}

#[test]
fn nothing_shows_a_key_when_it_is_printed() {
    let world = World::new();
    let suite = Suite { pattern: Pattern::Ik, cipher: Cipher::ChaChaPoly };
    let (client, _) = world.session(suite);
    let shown = format!(
        "{client:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        world.initiator(suite),
        world.responder,
        world.credentials(Pattern::Ik),
        world.credentials(Pattern::NnPsk0),
        world.credentials(Pattern::NkToken),
        Cookies::new(&[7; 32]),
        ResetTokens::new(&[7; 32]).token(1),
    );
    for byte in [1, 2, 3, 4, 7] {
        assert!(!shown.contains(&format!("{byte}, {byte}")) && !shown.contains(&format!("0{byte}0{byte}")), "{shown}");
    }
}
