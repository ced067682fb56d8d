//! Under load: proof that a client receives what is sent to its address, before anything is computed for it.

use subtle::ConstantTimeEq;

use super::hash::mac;
use super::initiator::cookie_key;
use super::responder::{COOKIE, Initial, RETRY_LEN};
use super::secret::Secret;
use super::wire::concat;
use super::{Duration, Instant};
use crate::header::{header, kind};

/// A cookie is good for this long at least, and for twice as long at most.
pub const COOKIE_PERIOD: Duration = Duration::from_secs(60);

/// Cookies that a server can check without having kept them: keyed hashes of address, id and time.
///
/// A client that is asked for one sends its INITIAL again, with a hash under the cookie at its end. Who sends with a false
/// address never sees the cookie. `address` is whatever tells addresses apart, with the port, in the same bytes every time.
pub struct Cookies {
    secret: Secret,
}

impl Cookies {
    /// `secret` is random and stays with this server: after a restart another one will do.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { secret: Secret::new(*secret) }
    }

    /// The RETRY to send in answer to an INITIAL: shorter than that, and taken only by who sent it.
    pub fn retry(&self, now: Instant, initial: &Initial<'_>, address: &[u8]) -> [u8; RETRY_LEN] {
        let header = header(initial.id(), kind::RETRY, 0);
        let cookie = self.cookie(period(now), initial, address);
        let tag = mac(initial.mac_key(), &[&header, &cookie, initial.mac1()]);
        concat(&[&header, &cookie, &tag])
    }

    /// Whether an INITIAL shows the cookie that was sent to this address for it.
    pub fn has_cookie(&self, now: Instant, initial: &Initial<'_>, address: &[u8]) -> bool {
        let Some((before, mac2)) = initial.with_mac2() else { return false };
        let now = period(now);
        [now, now.wrapping_sub(1)].into_iter().any(|period| {
            let cookie = self.cookie(period, initial, address);
            mac(&cookie_key(&cookie), &[before]).ct_eq(mac2).into()
        })
    }

    fn cookie(&self, period: u64, initial: &Initial<'_>, address: &[u8]) -> [u8; COOKIE] {
        mac(&self.secret, &[&period.to_le_bytes(), &initial.id().to_le_bytes(), address])
    }
}

fn period(now: Instant) -> u64 {
    now.as_micros() / COOKIE_PERIOD.as_micros()
}

impl core::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
}
