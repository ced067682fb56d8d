//! Where the parts of a frame lie, for those who read frames and for those who keep them (see `frame`).

use crate::time::Duration;

/// Bytes before the subject.
pub const HEAD: usize = 7;
/// Bytes of the length field, which `body_len` does not count.
pub const LENGTH: usize = 4;
/// Bytes of the time to live behind the message of a PUBT.
pub const TTL: usize = 4;
/// Command bytes. 1 to 8 are the original's; our own start at 0x10, which the original answers with ERR.
pub mod command {
    /// Subscribe to a pattern. Native clients put a number into the payload (u32 big-endian), which the original ignores.
    pub const SUB: u8 = 0x01;
    /// Take a subscription back; the number as in [`SUB`].
    pub const UNSUB: u8 = 0x02;
    /// Publish a message.
    pub const PUB: u8 = 0x03;
    /// A message for a subscriber: the PUB with another command byte.
    pub const MSG: u8 = 0x04;
    /// Are you there?
    pub const PING: u8 = 0x05;
    /// The answer to a PING.
    pub const PONG: u8 = 0x06;
    /// Done; the text is in the subject.
    pub const OK: u8 = 0x07;
    /// Refused; the text is in the subject.
    pub const ERR: u8 = 0x08;
    /// A native client's first frame.
    pub const HELLO: u8 = 0x10;
    /// A native server's answer to HELLO.
    pub const WELCOME: u8 = 0x11;
    /// The session ends, with a reason.
    pub const CLOSE: u8 = 0x12;
    /// A numbered SUB or UNSUB was carried out, or refused.
    pub const ACK: u8 = 0x13;
    /// A PUB with a time to live: how many milliseconds are left stands behind the message (u32 big-endian).
    pub const PUBT: u8 = 0x14;
}

/// The time to live as a PUBT says it: whole milliseconds, rounded up.
pub(crate) fn ttl(left: Duration) -> [u8; TTL] {
    u32::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX).to_be_bytes()
}

/// Makes the head of a frame that of another command whose payload is longer by `by`. False if the length does not fit
/// its field: nothing was changed.
pub(crate) fn retime(head: &mut [u8; HEAD], command: u8, by: i32) -> bool {
    let [l0, l1, l2, l3, ..] = *head;
    let Some(length) = u32::from_be_bytes([l0, l1, l2, l3]).checked_add_signed(by) else { return false };
    head[..LENGTH].copy_from_slice(&length.to_be_bytes());
    head[LENGTH] = command;
    true
}
