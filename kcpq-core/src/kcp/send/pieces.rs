//! Segments in pieces: what was sent when the path carried more, and does not arrive any more (PROTOCOL.md 2.11).
//!
//! The number of a segment and its data belong together for good, since an older copy may still arrive. So it is the
//! same segment that goes again, in as many datagrams as it needs.

use super::Sender;
use crate::kcp::env::Env;
use crate::kcp::packet::Packet;
use crate::kcp::recv::PIECE_HEAD;
use crate::kcp::segment::{Command, Header};
use crate::kcp::seq::Sn;
use crate::store::Store;

/// The rest of a datagram is not filled with less.
const WORTH: u16 = 256;

/// The segment whose pieces are going out, and where the next one begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutUp(Option<(Sn, u16)>);

impl CutUp {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// True if a segment's pieces are going out.
    pub(super) fn is_any(self) -> bool {
        self.0.is_some()
    }

    /// Segment `sn` goes out in pieces.
    pub(super) fn begin(&mut self, sn: Sn) {
        self.0 = Some((sn, 0));
    }
}

impl<S: Store> Sender<S> {
    /// Writes the next piece of the segment that goes out in pieces; `None` if there is none, false without room.
    #[cold]
    pub(super) fn write_piece(&mut self, env: &mut Env, packet: &mut Packet<'_>) -> Option<bool> {
        let (sn, at) = self.state.cut_up.0?;
        let found = self.flight.index_of(sn).and_then(|index| self.flight.slice(index));
        let Some((slice, rest)) = found.and_then(|slice| Some((slice, slice.len.checked_sub(at)?))) else {
            self.state.cut_up = CutUp::new(); // it has arrived
            return None;
        };
        let room = packet.room().unwrap_or(0).saturating_sub(PIECE_HEAD);
        let len = usize::from(rest).min(room);
        if len == 0 || len < usize::from(rest.min(WORTH)) && packet.len() > 0 {
            return Some(false);
        }
        let (command, ts) = (Command::Piece, env.ts());
        let header =
            Header { command, frg: slice.tag.flags(), ts, sn, len: (PIECE_HEAD + len) as u32, ..packet.template() };
        let (head, data) = packet.push(header)?.split_first_chunk_mut::<PIECE_HEAD>()?;
        let ([o0, o1], [t0, t1]) = (at.to_le_bytes(), slice.len.to_le_bytes());
        *head = [o0, o1, t0, t1];
        self.streams.copy_to(&slice, at.into(), data);
        env.stats.pieces_sent += 1;
        let end = at + len as u16;
        self.state.cut_up.0 = Some((sn, end)).filter(|_| end < slice.len);
        Some(true)
    }
}
