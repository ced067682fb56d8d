//! The subjects that a pattern matches, out of many that are in the order of their bytes.
//!
//! From each subject that does not match it is known where the next one can be that does: with `a.*.c`, behind `a.b.x`
//! none before `a.b/`, since `/` follows `.`. So what is looked at are those that match, and as many others at most as
//! there are different beginnings up to each `*`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::ops::Bound;

use super::Value;

/// Where a search goes on: at this subject, or the first one behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Cursor(String);

impl Cursor {
    /// At a subject.
    pub(in crate::broker) fn at(subject: &str) -> Self {
        Self(subject.into())
    }

    /// Behind a subject.
    pub(in crate::broker) fn behind(subject: &str) -> Self {
        Self([subject, "\0"].concat())
    }

    pub(super) fn bounds(&self) -> (Bound<&str>, Bound<&str>) {
        (Bound::Included(&self.0), Bound::Unbounded)
    }

    fn set(&mut self, parts: &[&str]) {
        self.0.clear();
        self.0.extend(parts.iter().copied());
    }
}

/// What a search comes to.
pub(in crate::broker) enum Step<'k> {
    /// One that matches.
    Found(&'k str, &'k Value),
    /// There may be more, when there are more steps.
    Pause,
    /// There is none any more.
    End,
}

/// See [`Kept::next`](super::Kept::next).
pub(super) fn next<'k>(
    values: &'k BTreeMap<Box<str>, Value>,
    pattern: &str,
    cursor: &mut Cursor,
    steps: &mut u32,
) -> Step<'k> {
    while let Some(left) = steps.checked_sub(1) {
        *steps = left;
        let Some((subject, value)) = values.range::<str, _>(cursor.bounds()).next() else { return Step::End };
        match compare(pattern, subject) {
            Place::Matches => {
                *cursor = Cursor::behind(subject);
                return Step::Found(subject, value);
            }
            Place::Before(parts) => cursor.set(&parts),
            Place::Last => return Step::End,
        }
    }
    Step::Pause
}

/// How a subject lies to those that a pattern matches.
enum Place<'t> {
    Matches,
    /// The next one is not before these parts put together, which are behind it.
    Before([&'t str; 3]),
    /// There is none behind it.
    Last,
}

fn compare<'t>(pattern: &'t str, subject: &'t str) -> Place<'t> {
    let upto = |end: usize| subject.get(..end).unwrap_or(subject);
    // Where the token begins that is looked at, and where the last one ends that stands for a `*`.
    let (mut start, mut star) = (0, None);
    for part in pattern.split('.') {
        let Some(rest) = subject.get(start..) else { return Place::Before([subject, "\0", ""]) };
        let end = start + rest.find('.').unwrap_or(rest.len());
        match part {
            ">" => return Place::Matches, // it is the last
            "*" => star = Some(end),
            literal if subject.get(start..end) == Some(literal) => {}
            // Those with the same beginning that match go on with the literal, and then end or go on with `.`.
            literal if rest < literal => return Place::Before([upto(start), literal, ""]),
            literal if rest.strip_prefix(literal).is_some_and(|behind| behind < ".") => {
                return Place::Before([upto(start), literal, "."]);
            }
            _ => return star.map_or(Place::Last, |star| Place::Before([upto(star), "/", ""])),
        }
        start = end + 1;
    }
    // All of the pattern is there. Those that are longer begin with it and `.`.
    if start > subject.len() { Place::Matches } else { Place::Before([upto(start - 1), "/", ""]) }
}
