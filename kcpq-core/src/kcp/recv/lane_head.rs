//! What stands in front of the data of a segment that says its lane (PROTOCOL.md 2.12).

use crate::kcp::segment::flags;
use crate::kcp::send::{LANE_HEAD, LATEST, LATEST_HEAD, VOID};
use crate::lane::Lane;

/// Whose data of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The segment of this number in this lane.
    Told(Lane, u16),
    /// Lane 0, behind all that was sent before.
    Untold,
}

/// What a segment of a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of the lane's stream.
    Ordinary,
    /// A message of this flow of which only the latest counts, with so many segments before it that are such as well.
    Latest { flow: u16, run: u16 },
    /// Nothing, or nothing any more.
    Void,
}

/// What stands in front of the data of a segment.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) whose: Place,
    pub(super) kind: Kind,
    pub(super) len: usize,
}

impl Head {
    /// Reads it. One that makes no sense says nothing.
    pub(super) fn read(frg: u8, data: &[u8]) -> Self {
        if frg & flags::LANED != 0
            && let Some((&[lane, low, high], rest)) = data.split_first_chunk::<LANE_HEAD>()
            && let Some(number) = Lane::new(lane & !(LATEST | VOID))
        {
            let whose = Place::Told(number, u16::from_le_bytes([low, high]));
            return match (lane & (LATEST | VOID), rest.first_chunk()) {
                (LATEST, Some(&[flow, flow_high, run, run_high])) => {
                    let (flow, run) = (u16::from_le_bytes([flow, flow_high]), u16::from_le_bytes([run, run_high]));
                    Self { whose, kind: Kind::Latest { flow, run }, len: LATEST_HEAD }
                }
                (0, _) => Self { whose, kind: Kind::Ordinary, len: LANE_HEAD },
                _ => Self { whose, kind: Kind::Void, len: data.len() },
            };
        }
        Self { whose: Place::Untold, kind: Kind::Ordinary, len: 0 }
    }
}

/// What stands in the window for the segment of this number in this lane once its data have gone before their turn.
pub(super) fn void(lane: Lane, number: u16) -> [u8; LANE_HEAD] {
    let [low, high] = number.to_le_bytes();
    [lane.number() | VOID, low, high]
}

/// True if nothing comes for a segment that says its lane.
pub(super) fn is_void(frg: u8, data: &[u8]) -> bool {
    frg & flags::LANED != 0 && Head::read(frg, data).kind == Kind::Void
}

impl Place {
    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Told(lane, _) => lane,
            Self::Untold => Lane::NORMAL,
        }
    }
}
