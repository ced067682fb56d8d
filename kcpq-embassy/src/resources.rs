//! The memory of a client: one value, sized by const generics.

use core::fmt;

use embassy_sync::blocking_mutex::raw::RawMutex;
use kcpq_core::Instant;
use kcpq_core::client::Memory;
#[cfg(feature = "sealed")]
use kcpq_core::seal::{Cipher, StartError, Trust};

use crate::config::Fitted;
use crate::shared::{Place, Shared, Slot};
use crate::{Client, Config, Runner};

/// All memory of one client. As a `static` (in a `ConstStaticCell`) it is all zeros: it is in `.bss`, needs no flash,
/// and is never moved or built on the stack.
///
/// * `R`: the mutex. `NoopRawMutex` when all tasks are on one executor, `CriticalSectionRawMutex` otherwise.
/// * `DATAGRAM`: maximum datagram in bytes of UDP payload, and the size of a segment's buffer; at least 128.
/// * `WINDOW`: window in segments, each way.
/// * `QUEUE`: capacity of the send queue in bytes; a message takes 8 bytes more than its subject and payload.
/// * `INBOX`: maximum message received in several segments, in bytes, likewise with 8 bytes more.
/// * `SUBSCRIPTIONS`: maximum number of subscriptions, and `TEXT`: maximum length of a pattern, in bytes.
pub struct Resources<
    'd,
    R: RawMutex,
    const DATAGRAM: usize,
    const WINDOW: usize,
    const QUEUE: usize,
    const INBOX: usize,
    const SUBSCRIPTIONS: usize,
    const TEXT: usize = 64,
> {
    memory: Memory<DATAGRAM, WINDOW, QUEUE, INBOX, SUBSCRIPTIONS, TEXT>,
    slots: [Slot; SUBSCRIPTIONS],
    /// The datagram that is being received or sent.
    datagram: [u8; DATAGRAM],
    shared: Place<Shared<'d, R, TEXT>>,
}

impl<'d, R: RawMutex, const D: usize, const W: usize, const Q: usize, const I: usize, const S: usize, const T: usize>
    Resources<'d, R, D, W, Q, I, S, T>
{
    /// Unused memory.
    pub const fn new() -> Self {
        const { assert!(D >= 128 && D <= u16::MAX as usize, "DATAGRAM is 128 to 65535") };
        const { assert!(W >= 1 && W <= u16::MAX as usize && S <= 32, "WINDOW is at least 1, SUBSCRIPTIONS at most 32") };
        Self { memory: Memory::new(), slots: [const { Slot::new() }; S], datagram: [0; D], shared: Place::Empty }
    }

    /// Splits into a handle and the runner. `now` returns the time (with embassy-time, `time::now`); `seed` should be
    /// as random as the device can make it: conversation numbers and jitter are derived from it.
    pub fn split(
        &'d mut self,
        config: &Config,
        now: fn() -> Instant,
        seed: u64,
    ) -> (Client<'d, R, T>, Runner<'d, R, T>) {
        let sizes = Fitted { datagram: D, window: W, queue: Q };
        let shared = self.shared.fill(Shared::new(config, sizes, now, seed, self.memory.lend(), &mut self.slots));
        (Client::new(shared), Runner::new(shared, &mut self.datagram))
    }

    /// The same with keys: sessions are sealed, so that nobody else reads, alters or repeats anything, and the client speaks
    /// with nobody but the server that has the key of which `trust` knows the public half. `entropy` is random, secret, and of
    /// no other use: 32 bytes of the device's generator of random numbers.
    ///
    /// Datagrams have to hold a handshake: `DATAGRAM` is 300 at least.
    ///
    /// # Errors
    /// The server's public key is one of the few that nobody can have.
    #[cfg(feature = "sealed")]
    pub fn split_sealed(
        &'d mut self,
        config: &Config,
        now: fn() -> Instant,
        seed: u64,
        trust: Trust,
        entropy: &[u8; 32],
    ) -> Result<(Client<'d, R, T>, Runner<'d, R, T>), StartError> {
        const { assert!(D >= 300, "DATAGRAM is at least 300 for sealed sessions") };
        let (client, runner) = self.split(config, now, seed);
        client.shared().with(|inner| inner.core.use_keys(trust, Cipher::ChaChaPoly, entropy))?;
        Ok((client, runner))
    }
}

impl<R: RawMutex, const D: usize, const W: usize, const Q: usize, const I: usize, const S: usize, const T: usize>
    Default for Resources<'_, R, D, W, Q, I, S, T>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<R: RawMutex, const D: usize, const W: usize, const Q: usize, const I: usize, const S: usize, const T: usize>
    fmt::Debug for Resources<'_, R, D, W, Q, I, S, T>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources").field("datagram", &D).field("window", &W).finish_non_exhaustive()
    }
}

/// What is promised: 4 + 4 segments of 512 B, 4 subscriptions and all else in less than 8 KiB, a quarter of one more
/// with native datagrams, another three quarters with sealed sessions, a whole one with lanes besides their memory, and 64
/// bytes with last wills, and as many with confirmations besides theirs. BBR, which is for larger windows, has a state of its own.
#[cfg(all(target_pointer_width = "32", not(feature = "bbr")))]
const _: () = {
    type Pocket = Resources<'static, embassy_sync::blocking_mutex::raw::NoopRawMutex, 512, 4, 384, 256, 4>;
    const NATIVE: usize = if cfg!(feature = "native") { 256 } else { 0 };
    const SEALED: usize = if cfg!(feature = "sealed") { 768 } else { 0 };
    const LANES: usize = if cfg!(feature = "lanes") { 1024 } else { 0 };
    const WILL: usize = if cfg!(feature = "will") { 64 } else { 0 };
    const CONFIRM: usize = if cfg!(feature = "confirm") { 64 } else { 0 };
    assert!(size_of::<Pocket>() < 8 * 1024 + NATIVE + SEALED + LANES + WILL + CONFIRM);
};
