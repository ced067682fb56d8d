//! The cipher against what kcp-go produced (tests/vectors/crypt.json says how it was recorded).

use kcpq_core::cipher::{self, CompatAes256Cfb, Key, KeyError, NoHeadRoom};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/crypt.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn key(value: &Value) -> Key {
    Key::from_hex(value.as_str().unwrap()).unwrap()
}

fn any_key() -> Key {
    Key::from_bytes(&core::array::from_fn(|index| index as u8))
}

#[test]
fn every_recorded_session_datagram_is_sealed_and_opened_to_the_byte() {
    let vectors = vectors();
    let session = &vectors["session"];
    let cipher = CompatAes256Cfb::new(&key(&session["key"]));
    let datagrams = session["datagrams"].as_array().unwrap();
    assert_eq!(datagrams.len(), 13);
    for recorded in datagrams {
        let (sealed, body) = (hex(&recorded["hex"]), hex(&recorded["body_hex"]));
        let mut ours = [vec![0; cipher::LEN], body.clone()].concat();
        cipher.seal(hex(&recorded["nonce"]).try_into().unwrap(), &mut ours).unwrap();
        assert_eq!(ours, sealed);
        assert_eq!(cipher.open(&mut ours).as_deref(), Some(&body[..]));
    }
}

/// A nonce of zeros shows the key stream of the constant IV.
#[test]
fn the_key_stream_begins_as_recorded() {
    let vectors = vectors();
    for (digits, stream) in vectors["keystream_block0"].as_object().unwrap() {
        let mut datagram = [0; cipher::LEN];
        CompatAes256Cfb::new(&Key::from_hex(digits).unwrap()).seal([0; 16], &mut datagram).unwrap();
        assert_eq!(datagram[..16], hex(stream));
    }
}

#[test]
fn only_32_bytes_are_a_key() {
    for case in vectors()["accepted_key_lengths"].as_array().unwrap() {
        let len = case["key_len"].as_u64().unwrap() as usize;
        let key = Key::from_hex(&"5a".repeat(len));
        // Go's AES also takes 16 and 24; KCPQ takes 32 alone (docs/original.md 2.6).
        match key {
            Ok(_) => assert_eq!(len, 32),
            Err(error) => assert_eq!(error, KeyError::Length { len: 2 * len }),
        }
    }
    assert_eq!(Key::from_hex(&"5".repeat(63)).unwrap_err(), KeyError::Length { len: 63 });
    assert_eq!(Key::from_hex(&"5".repeat(65)).unwrap_err(), KeyError::Length { len: 65 });
    // Four bytes that are one character: neither a panic nor a key.
    assert_eq!(Key::from_hex(&"🔑".repeat(16)).unwrap_err(), KeyError::Digit { position: 0 });
}

#[test]
fn neither_errors_nor_debug_output_show_anything_of_a_key() {
    let mut digits = "c0ffee11".repeat(8);
    let key = Key::from_hex(&digits).unwrap();
    assert_eq!(format!("{key:?}"), "Key { .. }");
    assert_eq!(format!("{:?}", CompatAes256Cfb::new(&key)), "CompatAes256Cfb { .. }");
    digits.replace_range(41..42, "x");
    let error = Key::from_hex(&digits).unwrap_err();
    assert_eq!(error, KeyError::Digit { position: 41 });
    assert_eq!(error.to_string(), "aes-256 key has no hex digit at position 41");
    assert!(!format!("{error:?}").contains(['x', 'c']));
}

#[test]
fn upper_and_lower_case_digits_give_the_same_key() {
    let (mut one, mut other) = ([0; 40], [0; 40]);
    CompatAes256Cfb::new(&Key::from_hex(&"aBcDeF09".repeat(8)).unwrap()).seal([1; 16], &mut one).unwrap();
    CompatAes256Cfb::new(&Key::from_hex(&"AbCdEf09".repeat(8)).unwrap()).seal([1; 16], &mut other).unwrap();
    assert_eq!(one, other);
}

#[test]
fn a_wrong_key_a_flipped_bit_and_a_cut_datagram_are_refused() {
    let cipher = CompatAes256Cfb::new(&any_key());
    let mut sealed = vec![0x11; 400];
    cipher.seal([9; 16], &mut sealed).unwrap();

    let stranger = CompatAes256Cfb::new(&Key::from_bytes(&[0x11; 32]));
    assert!(stranger.open(&mut sealed.clone()).is_none());
    assert!(cipher.open(&mut vec![0x11; 400]).is_none(), "a peer without a cipher");
    for len in 0..sealed.len() {
        let opened = cipher.open(&mut sealed.clone()[..len]).is_some();
        assert!(!opened, "cut to {len} bytes");
    }
    // In the nonce too: the block that follows it holds the CRC.
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 0x40;
        assert!(cipher.open(&mut damaged).is_none(), "bit flipped in byte {at}");
    }
    assert!(cipher.open(&mut sealed).is_some());
}

#[test]
fn an_empty_body_is_sealed_and_less_than_a_head_is_not() {
    let cipher = CompatAes256Cfb::new(&any_key());
    let mut datagram = [0; cipher::LEN];
    cipher.seal([3; 16], &mut datagram).unwrap();
    assert_eq!(cipher.open(&mut datagram).as_deref(), Some(&[][..]));
    for len in 0..cipher::LEN {
        let mut short = vec![0xee; len];
        assert_eq!(cipher.seal([3; 16], &mut short), Err(NoHeadRoom { len }));
        assert_eq!(short, vec![0xee; len]);
    }
}
