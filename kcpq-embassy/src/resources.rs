//! The memory of a client: one value, and its const generics are the only sizes there are.

use core::fmt;

use embassy_sync::blocking_mutex::raw::RawMutex;
use kcpq_core::Instant;
use kcpq_core::client::Memory;

use crate::config::Fitted;
use crate::shared::{Place, Shared, Slot};
use crate::{Client, Config, Runner};

/// All memory of one client. A `static` of it (in a `ConstStaticCell`) is all zeros: it lies in `.bss`, costs no flash, and
/// is never moved or built on the stack.
///
/// * `R`: what guards it. `NoopRawMutex` when all tasks are on one executor, `CriticalSectionRawMutex` otherwise.
/// * `DATAGRAM`: the longest datagram in bytes of UDP payload, and the size of a segment's place; at least 128.
/// * `WINDOW`: segments each way.
/// * `QUEUE`: bytes of messages that wait to be sent; a message with its subject and 8 bytes has to fit.
/// * `INBOX`: the longest message to be received if it comes in several segments, likewise with 8 bytes.
/// * `SUBSCRIPTIONS`, and `TEXT`, the longest pattern in bytes.
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

    /// The two ends of a client: handles, and what has to run for them. `now` says what the time is (with embassy-time,
    /// `time::now`); `seed` is random, as far as the device can: conversation numbers and jitter come from it.
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

/// What is promised: 4 + 4 segments of 512 B, 4 subscriptions and all else in less than 8 KiB.
#[cfg(target_pointer_width = "32")]
const _: () = {
    type Pocket = Resources<'static, embassy_sync::blocking_mutex::raw::NoopRawMutex, 512, 4, 384, 256, 4>;
    assert!(size_of::<Pocket>() < 8 * 1024);
};
