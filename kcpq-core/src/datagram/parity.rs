//! Parity around a session's datagrams: made if the framing has it, and understood if some comes.

use alloc::boxed::Box;

use super::{Content, Framing, parse};
use crate::fec::header::{self, Numbering, Shards};
use crate::fec::{Decoder, Encoder, Stats};
use crate::time::{Deadline, Instant, Why};

/// See the module.
#[derive(Debug)]
pub(super) struct Parity {
    encoder: Option<Box<Encoder>>,
    /// Made when the first FEC datagram comes.
    decoder: Option<Box<Decoder>>,
}

impl Parity {
    pub(super) fn new() -> Self {
        Self { encoder: None, decoder: None }
    }

    /// The framing changes. The encoder numbers datagrams, if there is one; `numbering` goes on where it is.
    pub(super) fn set(&mut self, framing: Framing, max_datagram: u16, numbering: &mut Numbering) {
        if let Some(encoder) = &self.encoder {
            *numbering = encoder.numbering();
        }
        self.encoder = match framing {
            Framing::Parity(shards) => Some(encoder(shards, max_datagram, *numbering)),
            _ => None,
        };
        if framing.is_plain() {
            self.decoder = None;
        }
    }

    /// Writes the header of a datagram. False if there is no parity to be made.
    pub(super) fn seal(&mut self, now: Instant, datagram: &mut [u8]) -> bool {
        let Some(encoder) = &mut self.encoder else { return false };
        // It fits: the engine keeps to the MTU.
        let _ = encoder.data(now, datagram);
        true
    }

    /// Writes a parity datagram that is owed.
    pub(super) fn poll(&mut self, out: &mut [u8]) -> Option<usize> {
        self.encoder.as_mut()?.poll_parity(out)
    }

    /// Takes in a FEC datagram. Data alone is a reason to keep some only if `expected`.
    pub(super) fn learn(&mut self, now: Instant, datagram: &[u8], expected: bool) {
        if !expected && self.decoder.is_none() && !matches!(parse(datagram), Ok(Content::Parity)) {
            return;
        }
        let decoder = self.decoder.get_or_insert_with(|| Box::new(Decoder::new(Default::default())));
        // What it refuses it has counted.
        let _ = decoder.open(now, datagram);
    }

    /// The segments of a datagram that was rebuilt.
    pub(super) fn poll_rebuilt(&mut self) -> Option<&[u8]> {
        self.decoder.as_mut()?.poll_recovered()
    }

    /// Drops what is too old to be of use.
    pub(super) fn on_time(&mut self, now: Instant) {
        if let Some(decoder) = &mut self.decoder {
            decoder.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.decoder.as_ref()?.poll_timeout().map(|at| Deadline { at, why: Why::Parity })
    }

    /// What the decoder saw; all zeros without one.
    pub(super) fn stats(&self) -> Stats {
        self.decoder.as_ref().map(|decoder| decoder.stats()).unwrap_or_default()
    }
}

fn encoder(shards: Shards, max_datagram: u16, earlier: Numbering) -> Box<Encoder> {
    let encoder = Encoder::new(shards, usize::from(max_datagram).saturating_sub(header::SHARD));
    Box::new(encoder.behind(earlier))
}
