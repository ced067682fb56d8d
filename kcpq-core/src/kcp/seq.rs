//! Sequence numbers and the wire's clock: 32 bits that wrap around (PROTOCOL.md 2.3).

use crate::time::Instant;

/// The number of a segment. "After" means within the next 2^31 numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sn(pub u32);

impl Sn {
    /// How far `self` is behind `earlier`; negative if it comes before.
    pub const fn distance(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// True if `self` comes after `other`.
    pub const fn after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// True if `self` comes before `other`.
    pub const fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// The number `count` places further.
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

/// A reading of the sender's 32-bit millisecond clock; only its originator can interpret it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ts(pub u32);

impl Ts {
    /// No reading: there is nothing to echo.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// The clock at `now`.
    pub const fn of(now: Instant) -> Self {
        Self(now.as_wire_millis())
    }

    /// Milliseconds from `earlier` to `self`; negative if `earlier` is the later one.
    pub const fn millis_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}
