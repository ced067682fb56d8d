//! BLAKE2s (RFC 7693) in its three uses: hash, keyed hash, and HKDF as Noise defines it over HMAC.
//!
//! One type of the library serves all three, which saves a microcontroller 1.5 KB.

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, Update};
use zeroize::Zeroizing;

use super::wire::concat;

/// 32 bytes that are wiped when they are dropped.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// BLAKE2s-256 of the parts in a row.
pub(super) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    keyed(None, parts)
}

/// The first 16 bytes of BLAKE2s-256 with a key, of the parts in a row.
pub(crate) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 16] {
    concat(&[&keyed(Some(key), parts)])
}

/// Noise's HKDF (revision 34, section 4.3) with three outputs; two are its first two.
pub(super) fn hkdf(chaining_key: &[u8; 32], input: &[u8]) -> [Secret; 3] {
    let temp = hmac(chaining_key, input, &[]);
    let first = hmac(&temp, &[], &[1]);
    let second = hmac(&temp, &*first, &[2]);
    let third = hmac(&temp, &*second, &[3]);
    [first, second, third]
}

/// HMAC (RFC 2104) of two parts in a row; the block of BLAKE2s has 64 bytes.
fn hmac(key: &[u8; 32], first: &[u8], second: &[u8]) -> Secret {
    let inner = Zeroizing::new(hash(&[&*pad(key, 0x36), &[0x36; 32], first, second]));
    Zeroizing::new(hash(&[&*pad(key, 0x5c), &[0x5c; 32], &*inner]))
}

fn pad(key: &[u8; 32], with: u8) -> Secret {
    Zeroizing::new(key.map(|byte| byte ^ with))
}

#[cfg_attr(target_os = "none", inline(never))]
fn keyed(key: Option<&[u8]>, parts: &[&[u8]]) -> [u8; 32] {
    // No key, or one of 32 bytes: both are allowed. A hash of zeros, should that change, makes every handshake fail.
    let Ok(mut hasher) = Blake2sMac256::new_with_salt_and_personal(key, &[], &[]) else { return [0; 32] };
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize_fixed().into()
}
