//! The handshakes against the published vectors, and against `snow`.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde_json::Value;
use snow::Builder;
use snow::resolvers::{CryptoResolver, DefaultResolver};

use super::*;

const PATTERNS: [Pattern; 3] = [Pattern::Ik, Pattern::Nk, Pattern::NnPsk0];
const CIPHERS: [Cipher; 2] = [Cipher::ChaChaPoly, Cipher::AesGcm];

fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn key(value: &Value) -> [u8; 32] {
    unhex(value).try_into().unwrap()
}

fn suites() -> impl Iterator<Item = Suite> {
    PATTERNS.into_iter().flat_map(|pattern| CIPHERS.map(|cipher| Suite { pattern, cipher }))
}

/// What both sides have beforehand.
struct Keys {
    client: PrivateKey,
    server: PrivateKey,
    server_public: PublicKey,
    secret: SharedSecret,
}

impl Keys {
    fn new(client: &[u8; 32], server: &[u8; 32], secret: &[u8; 32]) -> Self {
        let server = PrivateKey::from_bytes(server);
        let server_public = server.public();
        Self { client: PrivateKey::from_bytes(client), server, server_public, secret: SharedSecret::from_bytes(secret) }
    }

    fn of_initiator(&self, pattern: Pattern) -> InitiatorKeys<'_> {
        match pattern {
            Pattern::Ik => InitiatorKeys::Ik { key: &self.client, server: &self.server_public },
            Pattern::Nk | Pattern::NkToken => InitiatorKeys::Nk { server: &self.server_public },
            Pattern::NnPsk0 => InitiatorKeys::NnPsk0 { secret: &self.secret },
        }
    }

    fn of_responder(&self, pattern: Pattern) -> ResponderKeys<'_> {
        match pattern {
            Pattern::Ik => ResponderKeys::Ik { key: &self.server },
            Pattern::Nk | Pattern::NkToken => ResponderKeys::Nk { key: &self.server },
            Pattern::NnPsk0 => ResponderKeys::NnPsk0 { secret: &self.secret },
        }
    }
}

/// The place of a message: `overhead` bytes in all, with a payload before its tag.
fn message(overhead: usize, payload: &[u8]) -> Vec<u8> {
    [&vec![0; overhead - TAG], payload, &[0; TAG]].concat()
}

#[test]
fn the_published_vectors_are_written_and_read_to_the_byte() {
    let document: Value = serde_json::from_str(include_str!("../../../tests/vectors/noise.json")).unwrap();
    let mut seen = Vec::new();
    for vector in document["vectors"].as_array().unwrap() {
        let name = vector["protocol_name"].as_str().unwrap();
        let suite = suites().find(|suite| suite.protocol_name() == name).unwrap();
        seen.push(suite);
        let or_zeros = |value: &Value| if value.is_null() { [0; 32] } else { key(value) };
        let keys = Keys::new(
            &or_zeros(&vector["init_static"]),
            &or_zeros(&vector["resp_static"]),
            &or_zeros(&vector["init_psks"][0]),
        );
        let prologue = unhex(&vector["init_prologue"]);
        let entropy = [key(&vector["init_ephemeral"]), key(&vector["resp_ephemeral"])];
        let messages: Vec<(Vec<u8>, Vec<u8>)> = vector["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| (unhex(&message["payload"]), unhex(&message["ciphertext"])))
            .collect();

        let (payload, expected) = &messages[0];
        let mut first = message(first_overhead(suite.pattern), payload);
        let initiator =
            Initiator::write(&keys.of_initiator(suite.pattern), suite.cipher, &prologue, &entropy[0], &mut first)
                .unwrap();
        assert_eq!(first, *expected, "{name}");
        let (responder, read) =
            Responder::read(&keys.of_responder(suite.pattern), suite.cipher, &prologue, &mut first).unwrap();
        assert_eq!(read, payload);
        assert_eq!(responder.client, (suite.pattern == Pattern::Ik).then(|| keys.client.public()));

        let (payload, expected) = &messages[1];
        let mut second = message(SECOND_OVERHEAD, payload);
        let of_server = responder.write(&entropy[1], &mut second).unwrap();
        assert_eq!(second, *expected, "{name}");
        let (of_client, read) = initiator.read(&mut second).unwrap();
        assert_eq!(read, payload);
        assert_eq!(*of_client.of_initiator, *of_server.of_initiator);
        assert_eq!(*of_client.of_responder, *of_server.of_responder);

        // And what the keys seal then, in turn, each with a nonce that counts from 0.
        for (number, (payload, expected)) in messages[2..].iter().enumerate() {
            let key = if number % 2 == 0 { &of_client.of_initiator } else { &of_client.of_responder };
            let mut text = payload.clone();
            let tag = RustCrypto::new(suite.cipher, key).unwrap().seal(number as u64 / 2, &[], &mut text).unwrap();
            assert_eq!([&text[..], &tag].concat(), *expected, "{name}");
        }
    }
    assert!(suites().all(|suite| seen.contains(&suite)), "there is a vector for each");
}

/// Another implementation, as client and as server, with random keys, prologues and payloads.
#[test]
fn snow_speaks_the_same() {
    let mut rng = fastrand::Rng::with_seed(13);
    for round in 0..60 {
        for suite in suites() {
            let mut bytes = || core::array::from_fn(|_| rng.u8(..));
            let (client, server, secret, entropy): ([u8; 32], [u8; 32], [u8; 32], [u8; 32]) =
                (bytes(), bytes(), bytes(), bytes());
            let keys = Keys::new(&client, &server, &secret);
            let prologue: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
            let payloads: [Vec<u8>; 2] = [0, 1].map(|_| (0..rng.usize(..300)).map(|_| rng.u8(..)).collect());
            let params = suite.protocol_name().parse().unwrap();
            let mut builder = Builder::new(params).prologue(&prologue).unwrap();
            if suite.pattern == Pattern::NnPsk0 {
                builder = builder.psk(0, &secret).unwrap();
            }
            let (mut wire, mut read) = (vec![0; 600], vec![0; 600]);

            if round % 2 == 0 {
                if suite.pattern != Pattern::NnPsk0 {
                    builder = builder.local_private_key(&server).unwrap();
                }
                let mut snow = builder.build_responder().unwrap();
                let mut first = message(first_overhead(suite.pattern), &payloads[0]);
                let ours = keys.of_initiator(suite.pattern);
                let initiator = Initiator::write(&ours, suite.cipher, &prologue, &entropy, &mut first).unwrap();
                let len = snow.read_message(&first, &mut read).unwrap();
                assert_eq!(read[..len], payloads[0], "{}", suite.protocol_name());
                let len = snow.write_message(&payloads[1], &mut wire).unwrap();
                let (split, payload) = initiator.read(&mut wire[..len]).unwrap();
                assert_eq!(payload, payloads[1]);
                let (of_initiator, of_responder) = snow.dangerously_get_raw_split();
                assert_eq!((*split.of_initiator, *split.of_responder), (of_initiator, of_responder));
            } else {
                let public = *keys.server_public.as_bytes();
                if suite.pattern != Pattern::NnPsk0 {
                    builder = builder.remote_public_key(&public).unwrap();
                }
                if suite.pattern == Pattern::Ik {
                    builder = builder.local_private_key(&client).unwrap();
                }
                let mut snow = builder.build_initiator().unwrap();
                let len = snow.write_message(&payloads[0], &mut wire).unwrap();
                let ours = keys.of_responder(suite.pattern);
                let (responder, payload) = Responder::read(&ours, suite.cipher, &prologue, &mut wire[..len]).unwrap();
                assert_eq!(payload, payloads[0]);
                assert_eq!(responder.client, (suite.pattern == Pattern::Ik).then(|| keys.client.public()));
                let mut second = message(SECOND_OVERHEAD, &payloads[1]);
                let split = responder.write(&entropy, &mut second).unwrap();
                let len = snow.read_message(&second, &mut read).unwrap();
                assert_eq!(read[..len], payloads[1], "{}", suite.protocol_name());
                let (of_initiator, of_responder) = snow.dangerously_get_raw_split();
                assert_eq!((*split.of_initiator, *split.of_responder), (of_initiator, of_responder));
            }
        }
    }
}

/// Sealing with additional data, and rekeying, which no vector has.
#[test]
fn snow_seals_and_rekeys_the_same() {
    let mut rng = fastrand::Rng::with_seed(14);
    for (cipher, theirs) in [
        (Cipher::ChaChaPoly, snow::params::CipherChoice::ChaChaPoly),
        (Cipher::AesGcm, snow::params::CipherChoice::AESGCM),
    ] {
        let mut snow = DefaultResolver.resolve_cipher(&theirs).unwrap();
        for _ in 0..200 {
            let mut key: [u8; 32] = core::array::from_fn(|_| rng.u8(..));
            let text: Vec<u8> = (0..rng.usize(..600)).map(|_| rng.u8(..)).collect();
            let header: [u8; 12] = core::array::from_fn(|_| rng.u8(..));
            let nonce = rng.u64(..) >> rng.u32(..64);
            snow.set(&key);
            for _ in 0..2 {
                let mut expected = vec![0; text.len() + TAG];
                let len = snow.encrypt(nonce, &header, &text, &mut expected);
                let aead = RustCrypto::new(cipher, &key).unwrap();
                let mut sealed = text.clone();
                let tag = aead.seal(nonce, &header, &mut sealed).unwrap();
                sealed.extend_from_slice(&tag);
                assert_eq!(sealed, expected[..len]);
                assert_eq!(aead.open(nonce, &header, &mut sealed).unwrap(), text);
                // As the transport does it.
                snow.rekey();
                let mut next = [0; 32];
                aead.seal(u64::MAX, &[], &mut next).unwrap();
                key = next;
            }
        }
    }
}

/// The few public keys with which everybody agrees on zeros (RFC 7748, section 6.1).
#[test]
fn keys_of_small_order_are_refused() {
    let keys = Keys::new(&[1; 32], &[2; 32], &[3; 32]);
    let one = {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes
    };
    for public in [[0; 32], one] {
        assert_eq!(agree(keys.client.secret(), &PublicKey(public)).map(|_| ()), Err(Rejected::Forged));
        let mut first = message(first_overhead(Pattern::Nk), b"hello");
        let begun = Initiator::write(
            &InitiatorKeys::Nk { server: &PublicKey(public) },
            Cipher::ChaChaPoly,
            b"",
            &[4; 32],
            &mut first,
        );
        assert!(begun.is_err());
        // As an ephemeral key of either side, too.
        let mut first = message(first_overhead(Pattern::Nk), b"hello");
        first[..32].copy_from_slice(&public);
        assert!(Responder::read(&keys.of_responder(Pattern::Nk), Cipher::ChaChaPoly, b"", &mut first).is_err());
    }
}

#[test]
fn the_wrong_pattern_key_cipher_or_prologue_opens_nothing() {
    let keys = Keys::new(&[1; 32], &[2; 32], &[3; 32]);
    let others = Keys::new(&[1; 32], &[5; 32], &[6; 32]);
    for suite in suites() {
        let mut first = message(first_overhead(suite.pattern), &[7; 60]);
        Initiator::write(&keys.of_initiator(suite.pattern), suite.cipher, b"prologue", &[4; 32], &mut first).unwrap();
        for other in suites().filter(|other| *other != suite) {
            let read =
                Responder::read(&keys.of_responder(other.pattern), other.cipher, b"prologue", &mut first.clone())
                    .is_ok();
            assert!(!read, "{} as {}", suite.protocol_name(), other.protocol_name());
        }
        assert!(
            Responder::read(&keys.of_responder(suite.pattern), suite.cipher, b"prologue!", &mut first.clone()).is_err()
        );
        assert!(
            Responder::read(&others.of_responder(suite.pattern), suite.cipher, b"prologue", &mut first.clone())
                .is_err()
        );
        assert!(Responder::read(&keys.of_responder(suite.pattern), suite.cipher, b"prologue", &mut first).is_ok());
    }
}

#[test]
fn the_names_are_those_that_snow_knows() {
    for suite in suites() {
        let name: String = format!("{:?}", suite.protocol_name().parse::<snow::params::NoiseParams>().unwrap());
        assert!(name.contains("Curve25519") && name.contains("Blake2s"), "{name}");
    }
}
