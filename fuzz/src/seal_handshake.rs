//! The datagrams of a handshake, true ones with changes and arbitrary ones, before both ends: only what the other end made is
//! taken. Changed first messages carry the right `mac1`, as of somebody who knows the server's public key.

use kcpq_core::Instant;
use kcpq_core::seal::{
    Cipher, Cookies, Credentials, Initiator, Pattern, PrivateKey, PublicKey, ResetTokens, Responder, RustCrypto,
    SharedSecret, Suite, Token, TokenHash, Transport, Unconfirmed,
};

use crate::Seed;

const PATTERNS: [Pattern; 4] = [Pattern::Ik, Pattern::Nk, Pattern::NnPsk0, Pattern::NkToken];
const CIPHERS: [Cipher; 2] = [Cipher::ChaChaPoly, Cipher::AesGcm];
const SECRET: [u8; 32] = [3; 32];
const ID: u64 = 7;

/// The first byte chooses suite and direction; the rest is a datagram, or changes to a true one: place and bits.
pub fn run(data: &[u8]) {
    let [choice, rest @ ..] = data else { return };
    let suite = Suite { pattern: PATTERNS[usize::from(choice % 4)], cipher: CIPHERS[usize::from(choice / 4 % 2)] };
    let server_key = PrivateKey::from_bytes(&[2; 32]);
    let (client_key, server, secret) =
        (PrivateKey::from_bytes(&[1; 32]), server_key.public(), SharedSecret::from_bytes(&SECRET));
    let token = Token::from_bytes(&[8; 32]);
    let credentials = match suite.pattern {
        Pattern::Ik => Credentials::Identity { key: &client_key, server: &server },
        Pattern::Nk => Credentials::Anonymous { server: &server },
        Pattern::NkToken => Credentials::Token { token: &token, server: &server },
        Pattern::NnPsk0 => Credentials::Shared { secret: &secret },
    };
    let mut initiator = Initiator::new(ID, credentials, suite.cipher, &[4; 32], b"HELLO").expect("short, known");
    let responder = Responder::new(Some(server_key), Some(secret.clone()));
    let initial = initiator.datagram().to_vec();
    match choice / 8 % 4 {
        0 => {
            let mut datagram = rest.to_vec();
            let taken = responder.look(&mut datagram).and_then(|initial| responder.open(initial)).is_ok();
            assert!(!taken || rest.get(..initial.len() - 16) == initial.get(..initial.len() - 16), "made from nothing");
            parse(rest);
        }
        1 => {
            let signed = initial.len() - 32;
            let message = changed(&initial[..signed], rest);
            let mut datagram = [&message[..], &mac1(suite.pattern, &server, &message), &[0; 16]].concat();
            let taken = responder.look(&mut datagram).and_then(|initial| responder.open(initial)).is_ok();
            assert_eq!(taken, message == initial[..signed], "{suite:?}");
        }
        2 => {
            let mut datagram = initial.clone();
            let initial = responder.look(&mut datagram).expect("true");
            let retry = Cookies::new(&[5; 32]).retry(Instant::ZERO, &initial, b"address");
            let other = changed(&retry, rest);
            let untouched = initiator.datagram().to_vec();
            assert_eq!(initiator.handle_retry(&other).is_ok(), other == retry);
            assert_eq!(initiator.datagram() == untouched, other != retry);
            assert!(initiator.handle_reply::<RustCrypto>(&mut rest.to_vec()).is_err());
        }
        _ => {
            let mut datagram = initial.clone();
            let pending = responder.open(responder.look(&mut datagram).expect("true")).expect("true");
            let unconfirmed: Unconfirmed = pending.reply(&[6; 32], b"WELCOME").expect("short");
            let other = changed(unconfirmed.datagram(), rest);
            let mut reply = other.clone();
            let taken: Result<(Transport, _), _> = initiator.handle_reply(&mut reply);
            assert_eq!(taken.is_ok(), other == unconfirmed.datagram());
        }
    }
}

/// A true datagram with changes: each two bytes are a place and the bits to flip there; a last single one cuts.
fn changed(datagram: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut copy = datagram.to_vec();
    let (pairs, rest) = changes.as_chunks::<2>();
    for [at, bits] in pairs {
        let at = usize::from(*at) % copy.len();
        copy[at] ^= bits;
    }
    if let [cut] = rest {
        copy.truncate(copy.len().saturating_sub(usize::from(*cut)));
    }
    copy
}

/// As PROTOCOL.md 10.3 has it.
fn mac1(pattern: Pattern, server: &PublicKey, message: &[u8]) -> [u8; 16] {
    let (label, key) = match pattern {
        Pattern::NnPsk0 => (&b"kcpq sealed 1 mac1 shared secret"[..], &SECRET),
        Pattern::Ik | Pattern::Nk | Pattern::NkToken => (&b"kcpq sealed 1 mac1 public key"[..], server.as_bytes()),
    };
    let key = blake2s(None, &[label, key].concat());
    *blake2s(Some(&key), message).first_chunk().expect("32 bytes")
}

fn blake2s(key: Option<&[u8]>, data: &[u8]) -> [u8; 32] {
    use blake2::digest::{FixedOutput, Update};
    let hasher = blake2::Blake2sMac256::new_with_salt_and_personal(key, &[], &[]);
    hasher.expect("no key, or one of 32 bytes").chain(data).finalize_fixed().into()
}

/// What else reads bytes or text of others.
fn parse(data: &[u8]) {
    let tokens = ResetTokens::new(&[7; 32]);
    assert!(!tokens.token(ID).is_in(ID, data) || data == tokens.datagram(ID));
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(key) = text.parse::<PublicKey>() {
            assert_eq!(key.to_string(), text.to_ascii_lowercase());
        }
        if let Ok(key) = text.parse::<PrivateKey>() {
            assert_eq!(key.to_text().to_string(), text.to_ascii_lowercase());
        }
        if let Ok(token) = text.parse::<Token>() {
            assert_eq!(token.to_text().to_string(), text.to_ascii_lowercase());
        }
        if let Ok(hash) = text.parse::<TokenHash>() {
            assert_eq!(hash.to_string(), text.to_ascii_lowercase());
        }
    }
}

/// Each direction of each suite, with the true datagram and with one bit flipped.
pub fn seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = (0..32)
        .flat_map(|choice| [(format!("true-{choice}"), vec![choice]), (format!("bit-{choice}"), vec![choice, 40, 1])])
        .collect();
    for (name, text) in [
        ("public", PrivateKey::from_bytes(&[9; 32]).public().to_string()),
        ("token", Token::from_bytes(&[9; 32]).to_text().to_string()),
        ("tokenhash", Token::from_bytes(&[9; 32]).hash().to_string()),
        ("private", PrivateKey::from_bytes(&[9; 32]).to_text().to_string()),
    ] {
        seeds.push((name.to_owned(), [&[0], text.as_bytes()].concat()));
    }
    seeds.push(("reset".to_owned(), [&[0][..], &ResetTokens::new(&[7; 32]).datagram(ID)].concat()));
    seeds
}
