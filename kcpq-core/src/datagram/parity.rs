//! The parity of one session: made of what it sends, used for what it receives.

use alloc::boxed::Box;

use super::Framing;
use crate::fec::header::{self, Numbering, Shards};
use crate::fec::{Decoder, Encoder, Stats};
use crate::time::{Deadline, Instant, Why};

/// Encoder and decoder, if there is use for them.
#[derive(Debug)]
pub(super) struct Parity {
    encoder: Option<Box<Encoder>>,
    /// Made when the first FEC datagram comes.
    decoder: Option<Box<Decoder>>,
}

impl Parity {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { encoder: None, decoder: None }
    }

    /// Framing and length of datagrams change. Their numbers go on.
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

    /// Writes the FEC header of a datagram. False without parity.
    pub(super) fn seal(&mut self, now: Instant, datagram: &mut [u8]) -> bool {
        let Some(encoder) = &mut self.encoder else { return false };
        // It fits: the engine keeps to its MTU.
        let _ = encoder.data(now, datagram);
        true
    }

    /// Writes a parity datagram that is owed.
    pub(super) fn poll(&mut self, out: &mut [u8]) -> Option<usize> {
        self.encoder.as_mut()?.poll_parity(out)
    }

    /// Takes in a FEC datagram, data or parity. It `begins` the use of a decoder, or not.
    pub(super) fn learn(&mut self, now: Instant, datagram: &[u8], begins: bool) {
        if begins {
            self.decoder.get_or_insert_with(|| Box::new(Decoder::new(Default::default())));
        }
        if let Some(decoder) = &mut self.decoder {
            // What it refuses it has counted.
            let _ = decoder.open(now, datagram);
        }
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

    /// Bytes of memory that the decoder takes.
    pub(super) fn held(&self) -> usize {
        self.decoder.as_ref().map_or(0, |decoder| decoder.held())
    }

    /// Forgets what may rebuild others.
    pub(super) fn forget(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            decoder.release();
        }
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
