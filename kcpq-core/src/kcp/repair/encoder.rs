//! Makes repairs.

use alloc::vec::Vec;

use super::{OVERHEAD, WINDOW, covers, factor, flip, length};
use crate::field::Multiplier;
use crate::kcp::packet::Packet;
use crate::kcp::segment::{Command, Header};
use crate::kcp::send::{InFlight, Streams};
use crate::kcp::seq::Ts;
use crate::store::Store;

/// See the module.
#[derive(Debug)]
pub(in crate::kcp) struct Encoder {
    multiplier: Multiplier,
    row: u8,
    /// A segment's length and data.
    symbol: Vec<u8>,
}

impl Encoder {
    pub(in crate::kcp) fn new() -> Self {
        Self { multiplier: Multiplier::new(), row: 0, symbol: Vec::new() }
    }

    /// Writes a repair over the last segments in flight, as far as none is too long. False if there are none, or it has no
    /// room.
    pub(in crate::kcp) fn write<S: Store>(
        &mut self,
        flight: &InFlight<S>,
        streams: &mut Streams<S>,
        packet: &mut Packet<'_>,
        now: Ts,
    ) -> bool {
        let last = (0..flight.len()).rev().take(WINDOW).map_while(|index| flight.slice(index));
        let count = last.take_while(|slice| covers(usize::from(slice.len))).count();
        let slices = || (flight.len() - count..flight.len()).filter_map(|index| flight.slice(index));
        let (Some(first), Some(longest)) = (slices().next(), slices().map(|slice| slice.len).max()) else {
            return false;
        };
        let row = (self.row + 1) & 0x7f;
        let header = Header {
            command: Command::Repair,
            frg: row,
            ts: flip(now),
            sn: first.sn,
            len: u32::from(longest) + OVERHEAD as u32,
            ..packet.template()
        };
        let Some((place, sum)) = packet.push(header).and_then(<[u8]>::split_first_mut) else { return false };
        *place = count as u8;
        sum.fill(0);
        self.row = row;
        for slice in slices() {
            self.symbol.clear();
            self.symbol.extend(length(slice.len, slice.tag.flags()));
            self.symbol.resize(2 + usize::from(slice.len), 0);
            streams.copy_to(&slice, 0, &mut self.symbol[2..]);
            self.multiplier.add(factor(slice.sn, row), &self.symbol, sum);
        }
        true
    }
}
