//! Queue groups: of all the members of a group, one gets each message.
//!
//! ```text
//! subject -> shares that match -> by group -> the next member in turn that has nothing waiting, or the least
//! ```
//!
//! What members have waiting is not asked of all of them for each message: what each had when it was last asked tells whom to
//! ask, and with some messages one of the others is asked again.
//!
//! A *share* is what those have in common who are in the same group with the same pattern: the router knows shares, and not
//! their members. All sessions of another shard are one member of a share here, with as many turns as they are.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::outlet::LOAD;
use super::party::Party;
use crate::datagram::LOCAL_DATAGRAM;
use crate::lane::Asked;
use crate::time::{Duration, Instant};

/// See above.
pub(super) struct Groups {
    shares: Vec<Share>,
    /// Places in `shares` that are not used.
    free: Vec<u32>,
    by_text: HashMap<Box<str>, u32, SeedableRandomState>,
    names: HashMap<Box<str>, Name, SeedableRandomState>,
    last_group: u32,
    /// Which of several shares of a group is the first to be asked.
    turn: u32,
}

/// A group, however many patterns it has.
struct Name {
    group: u32,
    shares: u32,
}

#[derive(Default)]
struct Share {
    text: Box<str>,
    group: u32,
    seats: Vec<Seat>,
    /// What the member had waiting that was chosen last: none of those that are looked at is known to have less.
    least: u32,
    /// Messages since somebody was asked again who has more waiting than others, and who is next to be.
    since: u8,
    again: usize,
    /// Whose turn it is, and how many messages it has had in it.
    next: usize,
    turns: u32,
    /// How many sessions the members stand for.
    weight: u32,
    deal: Deal,
}

/// How messages are dealt to members who have as much waiting: to each of them as many as to any other, which lie together if they came
/// so. Where many come, each gets those of its part of a [`SPAN`] before the next does, or a batch of datagrams: few long ones cost less
/// than many short ones, and nobody is idle for longer.
#[derive(Default)]
struct Deal {
    /// Messages since then, and in the whole [`SPAN`] before.
    from: Instant,
    since: u32,
    before: u32,
    /// What each session gets, for so many messages.
    each: u32,
    left: u32,
}

/// The place of a member in the turns of a share.
struct Seat {
    member: Member,
    /// What it had waiting when it was last asked.
    load: u32,
}

/// One who takes part in a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// A subscription of a session here, and the lane in which its messages are to come, if it has asked for one.
    Session { slot: u32, number: u32, lane: Asked },
    /// The sessions of another shard, so many.
    Shard { index: u8, count: u32 },
}

/// A share that a message matches, and of which group it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) group: u32,
    pub(super) share: u32,
}

/// What somebody's coming or leaving has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The share, if it came with it, or left.
    pub(super) share: Option<u32>,
    /// Subscriptions of sessions here that it has now.
    pub(super) here: u32,
}

/// The member that comes next.
pub(super) struct Next {
    pub(super) member: Member,
    /// So many messages that came together are for it, if it has room.
    pub(super) due: u32,
    place: usize,
}

/// So many members in turn are looked at for the one that has least waiting.
const LOOKED_AT: usize = 64;
/// With so many messages one is asked again who had something waiting; where another one has nothing, with each message.
const AGAIN: u8 = 4;

/// The most messages of one turn, in bytes: what the longest datagrams of one batch hold at least.
pub(super) const TURN: usize = 4 * (LOCAL_DATAGRAM as usize - 128);
/// They add no more to what a member has waiting (see [`Outlet::load`](super::outlet::Outlet::load)).
const TURN_ADDS: u32 = TURN.div_ceil(LOAD) as u32;

/// In this time each member has its turn.
const SPAN: Duration = Duration::from_millis(1);

/// What names a share: the pattern and the group, with a space between them, which neither of them has.
pub(super) fn text(pattern: &str, group: &str) -> String {
    [pattern, " ", group].concat()
}

/// The pattern and the group of a text.
pub(super) fn parts(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or_default()
}

impl Groups {
    /// `seed` is random: peers choose what is hashed.
    pub(super) fn new(seed: u64) -> Self {
        let state = || SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self {
            shares: Vec::new(),
            free: Vec::new(),
            by_text: HashMap::with_hasher(state()),
            names: HashMap::with_hasher(state()),
            last_group: 0,
            turn: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }

    // --- members ---

    /// Somebody takes part from now on; a shard that did already, with so many from now on.
    pub(super) fn join(&mut self, text: &str, member: Member) -> Change {
        let known = self.by_text.get(text).copied();
        let index = known.unwrap_or_else(|| self.open(text));
        let Some(share) = self.share(index) else { return Change { share: None, here: 0 } };
        share.remove(|other| other.is(member));
        share.seats.push(Seat { member, load: 0 });
        share.least = 0;
        share.weight += member.weight();
        Change { share: known.is_none().then_some(index), here: share.here() }
    }

    /// Somebody takes part no more. `None` if it did not.
    pub(super) fn leave(&mut self, text: &str, member: Member) -> Option<Change> {
        let index = *self.by_text.get(text)?;
        let share = self.share(index)?;
        if !share.remove(|other| other.is(member)) {
            return None;
        }
        let (here, empty) = (share.here(), share.seats.is_empty());
        if empty {
            self.close(index);
        }
        Some(Change { share: empty.then_some(index), here })
    }

    /// Somebody goes on to take part as this member: the same one in another lane.
    pub(super) fn change(&mut self, text: &str, member: Member) {
        let share = self.by_text.get(text).copied().and_then(|index| self.share(index));
        let mut seats = share.into_iter().flat_map(|share| &mut share.seats);
        if let Some(seat) = seats.find(|seat| seat.member.is(member)) {
            seat.member = member;
        }
    }

    fn share(&mut self, index: u32) -> Option<&mut Share> {
        self.shares.get_mut(index as usize)
    }

    fn open(&mut self, text: &str) -> u32 {
        let Self { names, last_group, .. } = self;
        let name = names.entry(parts(text).1.into()).or_insert_with(|| {
            *last_group = last_group.wrapping_add(1);
            Name { group: *last_group, shares: 0 }
        });
        name.shares += 1;
        let share = Share { text: text.into(), group: name.group, ..Share::default() };
        let index = self.free.pop().unwrap_or(self.shares.len() as u32);
        match self.shares.get_mut(index as usize) {
            Some(place) => *place = share,
            None => self.shares.push(share),
        }
        self.by_text.insert(text.into(), index);
        index
    }

    fn close(&mut self, index: u32) {
        let Some(share) = self.share(index).map(core::mem::take) else { return };
        self.by_text.remove(&share.text);
        let name = parts(&share.text).1;
        if let Some(known) = self.names.get_mut(name) {
            known.shares -= 1;
            if known.shares == 0 {
                self.names.remove(name);
            }
        }
        self.free.push(index);
    }

    // --- messages ---

    /// The number of the group that has this name, if it has members.
    pub(super) fn named(&self, name: &str) -> Option<u32> {
        Some(self.names.get(name)?.group)
    }

    /// A share by the number that the router has for it.
    pub(super) fn found(&self, share: u32) -> Found {
        Found { share, group: self.shares.get(share as usize).map_or(0, |share| share.group) }
    }

    /// The name of the group that a share is of.
    pub(super) fn name(&self, share: u32) -> &str {
        self.shares.get(share as usize).map_or("", |share| parts(&share.text).1)
    }

    /// Subscriptions of sessions here that a share has.
    pub(super) fn here(&self, share: u32) -> usize {
        self.shares.get(share as usize).map_or(0, |share| share.here() as usize)
    }

    /// Chooses the member that gets a message, among those of some shares of one group, by what each has waiting: as `load`
    /// says, 0 if that is nothing to speak of, `None` if it cannot have the message.
    pub(super) fn choose(
        &mut self,
        shares: &[Found],
        now: Instant,
        mut load: impl FnMut(Member) -> Option<u32>,
    ) -> Option<Member> {
        if let [found] = shares {
            let share = self.share(found.share)?;
            let (_, place) = share.best(&mut load)?;
            share.give(place, 1, share.deal.alone(now));
            return Some(share.seats.get(place)?.member);
        }
        let first = self.first_of(shares);
        let mut best: Option<(u32, u32, usize)> = None;
        for index in shares.iter().cycle().skip(first).take(shares.len()).map(|found| found.share) {
            let Some(share) = self.share(index) else { continue };
            if let Some((load, place)) = share.best(&mut load)
                && best.is_none_or(|(least, ..)| load < least)
            {
                best = Some((load, index, place));
                if load == 0 {
                    break;
                }
            }
        }
        let (_, index, place) = best?;
        let share = self.share(index)?;
        share.give(place, 1, 1);
        Some(share.seats.get(place)?.member)
    }

    /// Chooses likewise who gets the first of `rest` messages that came together, and some behind it. Who did
    /// [get](Self::give) them is to be said. A turn is no longer than `longest` for each session.
    pub(super) fn next(
        &mut self,
        found: Found,
        (now, rest, longest): (Instant, u32, u32),
        mut load: impl FnMut(Member) -> Option<u32>,
    ) -> Option<Next> {
        let share = self.share(found.share)?;
        let each = share.deal.each(now, (rest, longest), share.weight);
        let (_, place) = share.best(&mut load)?;
        let member = share.seats.get(place)?.member;
        let had = if place == share.next { share.turns } else { 0 };
        let due = each.saturating_mul(member.weight()).saturating_sub(had).clamp(1, rest.max(1));
        Some(Next { member, due, place })
    }

    /// So many messages were given to the one that came next.
    pub(super) fn give(&mut self, found: Found, next: &Next, count: u32) {
        if let Some(share) = self.share(found.share) {
            share.give(next.place, count, share.deal.each);
        }
    }

    /// The one that came next has no room for the next message: it and those that follow are for one after the other.
    pub(super) fn give_up(&mut self, found: Found, next: &Next) {
        if let Some(share) = self.share(found.share) {
            (share.deal.each, share.deal.left) = (1, 0);
            if next.place == share.next && share.turns > 0 {
                share.pass_on();
            }
        }
    }

    /// The shard that has members of these shares and comes next behind the `own` one, around; the one that the message came
    /// `from` only if there is no other.
    pub(super) fn next_shard(&self, shares: &[Found], own: u8, from: Party) -> Option<Member> {
        let shares = shares.iter().filter_map(|found| self.shares.get(found.share as usize));
        let shards = shares.flat_map(|share| &share.seats).filter_map(|seat| match seat.member {
            member @ Member::Shard { index, .. } => {
                Some(((Party::Shard(index) == from, index.wrapping_sub(own)), member))
            }
            Member::Session { .. } => None,
        });
        shards.min_by_key(|(last, _)| *last).map(|(_, member)| member)
    }

    /// Which of some shares is to be asked first, so that each member has as many turns as any other.
    fn first_of(&mut self, shares: &[Found]) -> usize {
        let weight = |found: &Found| self.shares.get(found.share as usize).map_or(0, |share| share.weight);
        let all = shares.iter().map(weight).sum::<u32>().max(1);
        let mut turn = self.turn % all;
        let first = shares.iter().position(|found| match turn.checked_sub(weight(found)) {
            None => true,
            Some(rest) => {
                turn = rest;
                false
            }
        });
        self.turn = self.turn.wrapping_add(1);
        first.unwrap_or(0)
    }
}

impl Share {
    fn here(&self) -> u32 {
        self.seats.iter().filter(|seat| matches!(seat.member, Member::Session { .. })).count() as u32
    }

    /// True if there was such a member.
    fn remove(&mut self, which: impl Fn(&Member) -> bool) -> bool {
        let Some(place) = self.seats.iter().position(|seat| which(&seat.member)) else { return false };
        let Seat { member, .. } = self.seats.remove(place);
        self.weight -= member.weight();
        if place < self.next {
            self.next -= 1;
        } else if place == self.next {
            self.turns = 0;
        }
        true
    }

    /// The member that is to get a message, and what it has waiting: the first in turn of those that have least. Whose turn has begun goes
    /// on with it, though it has a little more by now.
    fn best(&mut self, mut load: impl FnMut(Member) -> Option<u32>) -> Option<(u32, usize)> {
        self.ask_again(&mut load);
        // Who cannot have the message, as bits, by turns.
        let mut without = 0;
        while let Some((turn, place)) = self.least(without) {
            let seat = self.seats.get_mut(place)?;
            match load(seat.member) {
                // It may have more by now than another one.
                Some(load) if load > seat.load => seat.load = load,
                Some(load) => {
                    seat.load = load;
                    if !self.goes_on(turn, load) {
                        self.least = load;
                    }
                    return Some((load, place));
                }
                None => without |= 1 << turn,
            }
        }
        let mut others = self.in_turn().skip(LOOKED_AT);
        others.find_map(|place| Some((load(self.seats.get(place)?.member)?, place)))
    }

    /// The first in turn of those that had least waiting, without some of them: its turn, and its place.
    fn least(&self, without: u64) -> Option<(usize, usize)> {
        let mut best: Option<(u32, usize, usize)> = None;
        for (turn, place) in self.in_turn().take(LOOKED_AT).enumerate() {
            let load = self.seats.get(place)?.load;
            if without & 1 << turn == 0 && best.is_none_or(|(least, ..)| load < least) {
                best = Some((load, turn, place));
                if load <= self.least || self.goes_on(turn, load) {
                    break;
                }
            }
        }
        best.map(|(_, turn, place)| (turn, place))
    }

    /// True for the first in turn in the middle of its turn, if what it has waiting is no more than that can have added: many turns
    /// would be cut short where all have about as much.
    fn goes_on(&self, turn: usize, load: u32) -> bool {
        turn == 0 && self.turns > 0 && load <= self.least.saturating_add(TURN_ADDS)
    }

    /// Places in the order of their turns.
    fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        (self.next..self.seats.len()).chain(0..self.next)
    }

    /// Asks now and then somebody who had something waiting: it may have less by now.
    fn ask_again(&mut self, load: &mut impl FnMut(Member) -> Option<u32>) {
        self.since += 1;
        if self.since < AGAIN && self.least > 0 {
            return;
        }
        (self.since, self.again) = (0, self.again + 1);
        if self.again >= self.seats.len() {
            self.again = 0;
        }
        if let Some(seat) = self.seats.get_mut(self.again).filter(|seat| seat.load > 0)
            && let Some(load) = load(seat.member)
        {
            seat.load = load;
            self.least = self.least.min(load);
        }
    }

    /// This one gets so many messages; its turn lasts for so many for `each` session that it stands for.
    fn give(&mut self, place: usize, count: u32, each: u32) {
        let Some(weight) = self.seats.get(place).map(|seat| seat.member.weight()) else { return };
        if place != self.next {
            (self.next, self.turns) = (place, 0);
        }
        self.turns += count;
        // Where all come alone nobody looks at it.
        self.deal.since = self.deal.since.saturating_add(count);
        self.deal.left = self.deal.left.saturating_sub(count);
        if self.turns >= each.saturating_mul(weight) {
            self.pass_on();
        }
    }

    /// It is the turn of the next one.
    fn pass_on(&mut self) {
        self.turns = 0;
        self.next += 1;
        if self.next >= self.seats.len() {
            self.next = 0;
        }
    }
}

impl Deal {
    /// What each session gets, of `rest` messages that are there and those that follow, if they are so many in all.
    fn each(&mut self, now: Instant, (rest, longest): (u32, u32), sessions: u32) -> u32 {
        let passed = now.since(self.from);
        if passed >= SPAN {
            self.before = if passed < SPAN + SPAN { self.since } else { 0 };
            (self.from, self.since, self.left) = (now, 0, 0);
        }
        let each = rest.max(self.before).checked_div(sessions).unwrap_or(0).min(longest).max(1);
        // Longer messages than before make shorter turns.
        if self.left == 0 || each > self.each || self.each > longest.max(1) {
            (self.each, self.left) = (each, each.saturating_mul(sessions));
        }
        self.each
    }

    /// What each session gets, where a message comes alone: as much as of those that came together just before.
    fn alone(&self, now: Instant) -> u32 {
        if now.since(self.from) < SPAN + SPAN { self.each.max(1) } else { 1 }
    }
}

impl Member {
    /// The sessions that it stands for.
    fn weight(self) -> u32 {
        match self {
            Self::Session { .. } => 1,
            Self::Shard { count, .. } => count,
        }
    }

    /// The same one, with however many sessions, and in whichever lane.
    fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Session { slot, number, .. }, Self::Session { slot: other, number: its, .. }) => {
                (slot, number) == (other, its)
            }
            (Self::Shard { index, .. }, Self::Shard { index: other, .. }) => index == other,
            _ => self == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::lane::Lane;

    fn session(slot: u32) -> Member {
        Member::Session { slot, number: 1, lane: Asked::default() }
    }

    /// How often each of these slots is chosen out of `count` times.
    fn chosen(groups: &mut Groups, shares: &[u32], count: usize, load: impl Fn(Member) -> Option<u32>) -> Vec<usize> {
        let shares: Vec<_> = shares.iter().map(|share| groups.found(*share)).collect();
        let mut times = vec![0; 10];
        for _ in 0..count {
            match groups.choose(&shares, Instant::ZERO, &load) {
                Some(Member::Session { slot, .. }) => times[slot as usize] += 1,
                Some(Member::Shard { .. }) => times[9] += 1,
                None => {}
            }
        }
        times
    }

    #[test]
    fn each_member_has_its_turn_and_a_shard_as_many_as_its_sessions() {
        let mut groups = Groups::new(1);
        let share = groups.join("a g", session(0)).share.unwrap();
        groups.join("a g", session(1));
        groups.join("a g", Member::Shard { index: 3, count: 3 });
        assert_eq!(chosen(&mut groups, &[share], 500, |_| Some(0)), [100, 100, 0, 0, 0, 0, 0, 0, 0, 300]);
        groups.join("a g", Member::Shard { index: 3, count: 8 });
        assert_eq!(chosen(&mut groups, &[share], 500, |_| Some(0)), [50, 50, 0, 0, 0, 0, 0, 0, 0, 400]);
        groups.leave("a g", Member::Shard { index: 3, count: 0 }).unwrap();
        groups.leave("a g", session(0)).unwrap();
        assert_eq!(chosen(&mut groups, &[share], 10, |_| Some(0))[1], 10);
    }

    #[test]
    fn who_has_less_waiting_gets_it_and_who_cannot_have_it_does_not() {
        let mut groups = Groups::new(1);
        let share = groups.join("a g", session(0)).share.unwrap();
        (1..5).for_each(|slot| assert!(groups.join("a g", session(slot)).share.is_none()));
        let load = |member| match member {
            Member::Session { slot: 0, .. } => None,
            Member::Session { slot: 1, .. } => Some(7),
            Member::Session { slot: 2, .. } => Some(u32::MAX),
            _ => Some(0),
        };
        assert_eq!(chosen(&mut groups, &[share], 100, load), [0, 0, 0, 50, 50, 0, 0, 0, 0, 0]);
        let all_busy = |member| load(member).map(|load| load.max(7));
        assert_eq!(chosen(&mut groups, &[share], 99, all_busy), [0, 33, 0, 33, 33, 0, 0, 0, 0, 0]);
        assert_eq!(chosen(&mut groups, &[share], 9, |_| None), [0; 10]);
        let other = groups.join("b g", session(0)).share.unwrap();
        (1..4).for_each(|slot| assert!(groups.join("b g", session(slot)).share.is_none()));
        let found = [groups.found(other)];
        for slot in [0, 1, 2, 3, 0] {
            assert_eq!(
                groups.choose(&found, Instant::ZERO, |_| Some(7)),
                Some(session(slot)),
                "of many with as much the first in turn"
            );
        }
    }

    #[test]
    fn who_is_busy_is_not_asked_for_each_message_and_nobody_is_forgotten() {
        let mut groups = Groups::new(1);
        let share = groups.join("a g", session(0)).share.unwrap();
        (1..8).for_each(|slot| assert!(groups.join("a g", session(slot)).share.is_none()));
        let found = [groups.found(share)];
        // All have something waiting: it leaves them at their own pace, as much as comes.
        let (mut waiting, mut asked, mut given) = ([640; 8], 0, [0; 8]);
        let mut load = |waiting: &[u32; 8], groups: &mut Groups| {
            let chosen = groups.choose(&found, Instant::ZERO, |member| {
                asked += 1;
                let Member::Session { slot, .. } = member else { return None };
                Some(waiting[slot as usize] / 64)
            });
            let Some(Member::Session { slot, .. }) = chosen else { panic!("somebody can have it") };
            slot as usize
        };
        for round in 0..20_000 {
            let slot = load(&waiting, &mut groups);
            waiting[slot] += 1;
            given[slot] += 1;
            // The last one takes twice as much as any other.
            let taker = (round % 9).min(7);
            waiting[taker] = waiting[taker].saturating_sub(1);
        }
        assert!(asked < 5 * 20_000 / 2, "{asked} times");
        let least = waiting.iter().min().unwrap() / 64;
        assert!(waiting.iter().all(|waiting| waiting / 64 <= least + 1), "{waiting:?}: evenly");
        assert!(given[7] > 4_000 && given[..7].iter().all(|given| (2_000..2_500).contains(given)), "{given:?}");
    }

    /// The pieces, by slots, in which so many messages are dealt that come together at this time, in microseconds; a shard's slot
    /// is 9.
    fn dealt(groups: &mut Groups, share: u32, micros: u64, mut rest: u32) -> Vec<(u32, u32)> {
        let found = groups.found(share);
        let mut pieces = Vec::new();
        while rest > 0 {
            let next = groups.next(found, (Instant::from_micros(micros), rest, 100), |_| Some(0)).unwrap();
            groups.give(found, &next, next.due);
            let slot = if let Member::Session { slot, .. } = next.member { slot } else { 9 };
            pieces.push((slot, next.due));
            rest -= next.due;
        }
        pieces
    }

    #[test]
    fn what_comes_together_is_dealt_in_equal_parts_and_where_much_comes_in_parts_of_a_millisecond() {
        let mut groups = Groups::new(1);
        let share = groups.join("a g", session(0)).share.unwrap();
        (1..4).for_each(|slot| assert!(groups.join("a g", session(slot)).share.is_none()));
        let mut dealt = |micros, rest| dealt(&mut groups, share, micros, rest);
        assert_eq!(dealt(0, 10), [(0, 2), (1, 2), (2, 2), (3, 2), (0, 1), (1, 1)]);
        assert_eq!(dealt(0, 3), [(2, 1), (3, 1), (0, 1)]);
        // Four runs of 100 in a millisecond, and as many in the next: each gets one of them.
        (0..4).for_each(|run| _ = dealt(1_000 + 250 * run, 100));
        assert_eq!(dealt(2_000, 100), [(1, 100)]);
        assert_eq!(dealt(2_250, 100), [(2, 100)]);
        assert_eq!(dealt(2_500, 150), [(3, 100), (0, 50)]);
        assert_eq!(dealt(2_750, 100), [(0, 50), (1, 50)], "a turn goes on with the next run");
        // Those that have come since count only when their millisecond is over, and after a while not at all.
        assert_eq!(dealt(3_000, 4), [(1, 4)]);
        assert_eq!(dealt(5_000, 4), [(1, 1), (2, 1), (3, 1), (0, 1)]);
    }

    #[test]
    fn a_turn_is_no_longer_than_it_may_be_and_goes_on_with_what_comes_alone() {
        let mut groups = Groups::new(1);
        let share = groups.join("a g", session(0)).share.unwrap();
        groups.join("a g", Member::Shard { index: 3, count: 2 });
        groups.join("a g", session(1));
        let found = [groups.found(share)];
        assert_eq!(dealt(&mut groups, share, 0, 800), [(0, 100), (9, 200), (1, 100)].repeat(2));
        assert_eq!(dealt(&mut groups, share, 1_000, 30), [(0, 30)]);
        let alone = |groups: &mut Groups, at| groups.choose(&found, Instant::from_micros(at), |_| Some(0));
        for _ in 30..99 {
            assert_eq!(alone(&mut groups, 1_500), Some(session(0)));
        }
        assert_eq!(dealt(&mut groups, share, 1_900, 2), [(0, 1), (9, 1)]);
        // That is long ago, and who has had more than one gives way.
        let shard = Member::Shard { index: 3, count: 2 };
        let later = core::array::from_fn(|_| alone(&mut groups, 4_000).unwrap());
        assert_eq!(later, [shard, session(1), session(0), shard, shard, session(1)]);
    }

    #[test]
    fn a_turn_is_not_cut_short_by_what_is_given_in_it_but_by_more_and_where_there_is_no_room() {
        let mut groups = Groups::new(1);
        let share = groups.join("a g", session(0)).share.unwrap();
        groups.join("a g", session(1));
        let found = groups.found(share);
        let mut next = |waiting: u32, give_up| {
            let load = |member| Some(if member == session(0) { waiting } else { 0 });
            let next = groups.next(found, (Instant::from_micros(1), 20, 10), load).unwrap();
            if give_up {
                groups.give_up(found, &next);
            } else {
                groups.give(found, &next, 4);
            }
            (next.member, next.due)
        };
        assert_eq!(next(0, false), (session(0), 10));
        assert_eq!(next(TURN_ADDS, false), (session(0), 6));
        assert_eq!(next(TURN_ADDS + 1, false), (session(1), 10), "more than a turn adds");
        assert_eq!(next(0, true), (session(1), 6));
        assert_eq!(next(0, true), (session(0), 10), "it is the next one's turn");
        assert_eq!(next(0, false), (session(0), 10), "who had not begun has it still");
        assert_eq!(next(u32::MAX, false), (session(1), 10));
        let longer = groups.next(found, (Instant::from_micros(1), 20, 3), |_| Some(0)).unwrap();
        assert_eq!((longer.member, longer.due), (session(1), 1), "its turn was too long for these");
        groups.give(found, &longer, 1);
        let longer = groups.next(found, (Instant::from_micros(1), 20, 3), |_| Some(0)).unwrap();
        assert_eq!((longer.member, longer.due), (session(0), 3));
    }

    #[test]
    fn a_shard_is_dealt_as_many_as_its_sessions_and_who_leaves_takes_no_turn_along() {
        let mut groups = Groups::new(1);
        let share = groups.join("a g", session(0)).share.unwrap();
        groups.join("a g", Member::Shard { index: 3, count: 3 });
        (1..3).for_each(|slot| assert!(groups.join("a g", session(slot)).share.is_none()));
        assert_eq!(dealt(&mut groups, share, 0, 12), [(0, 2), (9, 6), (1, 2), (2, 2)]);
        assert_eq!(dealt(&mut groups, share, 0, 3), [(0, 1), (9, 2)]);
        // It has had two of three, and gives way in the middle of its turn.
        groups.leave("a g", Member::Shard { index: 3, count: 0 }).unwrap();
        assert_eq!(dealt(&mut groups, share, 0, 6), [(1, 2), (2, 2), (0, 2)]);
        // The turn stays with whom it is, whoever leaves before.
        assert_eq!(dealt(&mut groups, share, 0, 1), [(1, 1)]);
        groups.leave("a g", session(0)).unwrap();
        assert_eq!(dealt(&mut groups, share, 0, 4), [(2, 2), (1, 2)]);
    }

    #[test]
    fn a_member_goes_on_in_another_lane() {
        let mut groups = Groups::new(1);
        let share = groups.join("a g", session(0)).share.unwrap();
        let lane = Asked::of(Lane::new(3).unwrap());
        let other = Member::Session { slot: 0, number: 1, lane };
        groups.change("a g", other);
        assert_eq!(groups.choose(&[groups.found(share)], Instant::ZERO, |_| Some(0)), Some(other));
    }

    #[test]
    fn a_group_with_several_patterns_is_one_group() {
        let mut groups = Groups::new(1);
        let few = groups.join("a.b g", session(0)).share.unwrap();
        let many = groups.join("a.* g", session(1)).share.unwrap();
        (2..4).for_each(|slot| assert!(groups.join("a.* g", session(slot)).share.is_none()));
        let other = groups.join("a.* h", session(5)).share.unwrap();
        assert_eq!((groups.found(few).group, groups.name(other)), (groups.found(many).group, "h"));
        assert_ne!(groups.found(other).group, groups.found(many).group);
        assert_eq!(chosen(&mut groups, &[few, many], 400, |_| Some(0))[..4], [100, 100, 100, 100]);
        let busy = |member| Some(u32::from(member != session(0)));
        assert_eq!(chosen(&mut groups, &[few, many], 40, busy)[0], 40);
    }

    #[test]
    fn nothing_is_left_of_what_has_no_members() {
        let mut groups = Groups::new(1);
        for round in 0..3 {
            let share = groups.join("a g", session(0)).share;
            assert_eq!(share, Some(0), "round {round}: places are used again");
            assert_eq!(groups.join("a g", session(1)), Change { share: None, here: 2 });
            assert_eq!(groups.leave("a g", session(7)), None);
            assert_eq!(groups.leave("a g", session(0)), Some(Change { share: None, here: 1 }));
            assert_eq!(groups.leave("a g", session(1)), Some(Change { share, here: 0 }));
            assert_eq!(groups.leave("a g", session(1)), None);
            assert!(groups.is_empty() && groups.names.is_empty() && groups.named("g").is_none());
        }
    }
}
