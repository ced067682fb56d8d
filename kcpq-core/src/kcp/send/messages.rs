//! Where messages end, in message mode.

use super::SendError;
use crate::store::{Full, Queue, Store, TxStream};

/// Most segments of a message: `frg` counts down from 254 (docs/original.md 3.2).
const MAX_FRAGMENTS: usize = 255;

/// The ends of the messages that are not yet cut into segments, as offsets in the stream.
pub(super) struct Messages<S: Store>(S::Queue<u32>);

impl<S: Store> Messages<S> {
    pub(super) fn new(ends: S::Queue<u32>) -> Self {
        Self(ends)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Queues one message behind what is in the stream, which begins at `offset`.
    pub(super) fn send(&mut self, tx: &mut S::Tx, offset: u32, mss: usize, bytes: &[u8]) -> Result<(), SendError> {
        let limit = MAX_FRAGMENTS * mss;
        if bytes.len() > limit {
            return Err(SendError::TooLong { limit, actual: bytes.len() });
        }
        if !self.0.has_room() {
            return Err(SendError::Full);
        }
        tx.push(bytes).map_err(|Full| SendError::Full)?;
        let end = offset.wrapping_add(tx.len() as u32);
        // There was room above.
        let _ = self.0.push(end);
        Ok(())
    }

    /// The length of the segment that begins at `offset`, and the fragments of its message that follow.
    pub(super) fn next(&self, offset: u32, mss: usize) -> Option<(usize, u8)> {
        let rest = self.0.get(0)?.wrapping_sub(offset) as usize;
        Some((rest.min(mss), rest.div_ceil(mss).saturating_sub(1) as u8))
    }

    /// A segment was cut off, which `frg` more of its message follow.
    pub(super) fn on_cut(&mut self, frg: u8) {
        if frg == 0 {
            self.0.pop();
        }
    }
}
