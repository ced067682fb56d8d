//! Lanes: streams beside each other in one conversation (PROTOCOL.md 2.12).

use core::fmt;
use core::ops::{Index, IndexMut};

/// One of the streams of a conversation: each is in order by itself, and none waits for what another one has lost.
///
/// Its number says what goes first. Whoever sends takes from the urgent lanes as long as they have something, then from the
/// normal ones, then from the bulk ones, and from lanes of the same priority by turns.
///
/// | lanes | priority |
/// |---|---|
/// | 1, 2 | urgent |
/// | 0, 3, 4, 5 | normal |
/// | 6, 7 | bulk |
///
/// ```
/// use kcpq_core::lane::{Lane, Priority};
///
/// assert_eq!(Lane::default(), Lane::NORMAL);
/// assert_eq!(Lane::new(3).map(Lane::priority), Some(Priority::Normal));
/// assert!(Lane::URGENT.priority() < Lane::BULK.priority());
/// assert_eq!(Lane::new(8), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Lane(u8);

/// What goes before what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Priority {
    /// Before all others.
    Urgent,
    /// As what says nothing of lanes.
    Normal,
    /// When nothing else is to be sent.
    Bulk,
}

impl Lane {
    /// How many there are.
    pub const COUNT: usize = 8;
    /// Lane 0, with all that says nothing of lanes.
    pub const NORMAL: Self = Self(0);
    /// Lane 1, before all others.
    pub const URGENT: Self = Self(1);
    /// Lane 6, behind all others.
    pub const BULK: Self = Self(6);

    /// The lane of this number, from 0 to 7.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// Its number, from 0 to 7.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// What it goes before.
    pub const fn priority(self) -> Priority {
        match self.0 {
            1 | 2 => Priority::Urgent,
            6 | 7 => Priority::Bulk,
            _ => Priority::Normal,
        }
    }

    /// All lanes, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Its place in what is kept for each lane of this build.
    const fn place(self) -> usize {
        // There are 8 or 1. The compiler does not know that no number is larger.
        self.0 as usize & (LANES - 1)
    }

    /// It is lane 0.
    pub const fn is_main(self) -> bool {
        self.0 == 0
    }
}

/// A lane that somebody has asked for, if so; takes no memory without lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Asked(#[cfg(feature = "lanes")] Option<Lane>);

#[cfg(feature = "lanes")]
impl Asked {
    pub(crate) fn of(lane: Lane) -> Self {
        Self(Some(lane))
    }

    pub(crate) fn get(self) -> Option<Lane> {
        self.0
    }
}

#[cfg(not(feature = "lanes"))]
impl Asked {
    #[cfg(feature = "alloc")]
    pub(crate) fn of(_: Lane) -> Self {
        Self()
    }

    pub(crate) fn get(self) -> Option<Lane> {
        None
    }
}

/// Lanes of this build.
pub(crate) const LANES: usize = if cfg!(feature = "lanes") { Lane::COUNT } else { 1 };

/// What is kept for each lane of this build. By its lane it is always found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Each<T>([T; LANES]);

impl<T> Each<T> {
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> IntoIterator for Each<T> {
    type Item = T;
    type IntoIter = core::array::IntoIter<T, LANES>;

    /// In the order of their lanes.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T> Index<Lane> for Each<T> {
    type Output = T;

    #[inline]
    fn index(&self, lane: Lane) -> &T {
        &self.0[lane.place()]
    }
}

impl<T> IndexMut<Lane> for Each<T> {
    #[inline]
    fn index_mut(&mut self, lane: Lane) -> &mut T {
        &mut self.0[lane.place()]
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {}", self.0)
    }
}
