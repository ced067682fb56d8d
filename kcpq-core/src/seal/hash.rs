//! BLAKE2s (RFC 7693) in its three uses: hash, keyed hash, and HKDF as Noise defines it over HMAC.
//!
//! One type of the library serves all three, which saves a microcontroller 1.5 KB.

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, Update};
use zeroize::Zeroizing;

use super::secret::Secret;
use super::wire::concat;

/// BLAKE2s-256 of the parts in a row.
pub(super) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    keyed(None, parts)
}

/// The first 16 bytes of BLAKE2s-256 with a key, of the parts in a row.
pub(crate) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 16] {
    concat(&[&keyed(Some(key), parts)])
}

/// Noise's HKDF (revision 34, section 4.3) with as many outputs as there are `keys`, of which the first is the chaining
/// key before and gives way to the first output.
#[cfg_attr(target_os = "none", inline(never))]
pub(super) fn hkdf(keys: &mut [Secret], input: &[u8]) {
    let Some(chaining_key) = keys.first() else { return };
    let temp = hmac(chaining_key, input, &[]);
    let mut previous: &[u8] = &[];
    for (key, number) in keys.iter_mut().zip(1_u8..) {
        *key = hmac(&temp, previous, &[number]);
        previous = &**key;
    }
}

/// HMAC (RFC 2104) of two parts in a row; the block of BLAKE2s has 64 bytes.
#[cfg_attr(target_os = "none", inline(never))]
fn hmac(key: &Secret, first: &[u8], second: &[u8]) -> Secret {
    const INNER: u8 = 0x36;
    const OUTER: u8 = 0x5c;
    let mut pad = Zeroizing::new([INNER; 64]);
    pad.iter_mut().zip(&**key).for_each(|(byte, key)| *byte ^= key);
    let inner = Secret::new(hash(&[&*pad, first, second]));
    pad.iter_mut().for_each(|byte| *byte ^= INNER ^ OUTER);
    Secret::new(hash(&[&*pad, &*inner]))
}

#[cfg_attr(target_os = "none", inline(never))]
fn keyed(key: Option<&[u8]>, parts: &[&[u8]]) -> [u8; 32] {
    // No key, or one of 32 bytes: both are allowed. A hash of zeros, should that change, makes every handshake fail.
    let Ok(mut hasher) = Blake2sMac256::new_with_salt_and_personal(key, &[], &[]) else { return [0; 32] };
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize_fixed().into()
}
