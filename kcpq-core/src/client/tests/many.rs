//! Many subscriptions: what each of them costs, and that whoever has an index asks for what those ask for who have not.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use bytes::Bytes;

use super::super::subscriptions::{Knows, Request, Subscription, Subscriptions, Wants};
use super::*;
use crate::hello::{Ack, Refusal};
use crate::store::{
    Full, HeapInbox, HeapIndex, HeapRx, HeapText, HeapTx, Inbox, Index, NoIndex, Queue, Store, Text, TooLarge,
};

std::thread_local! {
    /// How many entries were looked at.
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// The heap's store, with a queue that counts.
struct Counted<I>(I);

impl<I: Index<HeapText>> Store for Counted<I> {
    type Body<'b> = Bytes;
    type Text = HeapText;
    type Index = I;
    type Queue<T: 'static> = Counting<T>;
    type Tx = HeapTx;
    type Rx = HeapRx;
    type Inbox = Unused;
    #[cfg(feature = "lanes")]
    type Lanes<T> = crate::store::HeapLanes<T>;
    #[cfg(feature = "lanes")]
    type Own<T> = Box<T>;
    #[cfg(feature = "lanes")]
    type Numbers = crate::store::HeapNumbers;

    const GROWS: bool = true;
}

struct Counting<T>(VecDeque<T>);

impl<T> Queue<T> for Counting<T> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<&T> {
        LOOKS.set(LOOKS.get() + 1);
        self.0.get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        LOOKS.set(LOOKS.get() + 1);
        self.0.get_mut(index)
    }

    fn push(&mut self, item: T) -> Result<(), Full> {
        self.0.push_back(item);
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        LOOKS.set(LOOKS.get() + 1);
        self.0.pop_front()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn has_room(&self) -> bool {
        true
    }
}

/// Subscriptions need none.
struct Unused(HeapInbox);

impl<I: Index<HeapText>> Inbox<Counted<I>> for Unused {
    fn capacity(&self) -> usize {
        Inbox::<Heap>::capacity(&self.0)
    }

    fn bytes(&self) -> &[u8] {
        Inbox::<Heap>::bytes(&self.0)
    }

    fn write(&mut self, data: &[u8]) {
        Inbox::<Heap>::write(&mut self.0, data);
    }

    fn take(&mut self) -> Bytes {
        self.0.take()
    }

    fn duplicate(&mut self) -> Bytes {
        self.0.duplicate()
    }

    fn adopt<'b>(&'b mut self, source: &'b [u8]) -> Bytes {
        self.0.adopt(source)
    }

    fn clear(&mut self) {
        Inbox::<Heap>::clear(&mut self.0);
    }
}

type Table<I> = Subscriptions<Counted<I>>;

fn table<I: Index<HeapText>>() -> Table<I> {
    Subscriptions::new(Counting(VecDeque::<Subscription<HeapText>>::new()))
}

fn text(pattern: &str) -> HeapText {
    HeapText::new(pattern).unwrap_or_else(|TooLarge { .. }| unreachable!())
}

/// The server answers.
fn ack<I: Index<HeapText>>(table: &mut Table<I>, number: u32, refusal: Option<Refusal>) {
    table.on_ack(Instant::ZERO, &Config::default(), Ack { number, refusal }, None);
}

/// What is asked for now, as long as `room` lasts.
fn requests<I: Index<HeapText>>(table: &mut Table<I>, now: Instant, mut room: usize) -> Vec<(bool, u32, String, bool)> {
    let mut sent = Vec::new();
    table.on_time(now, &Config::default());
    table.send_requests(now, &Config::default(), Some(Knows::ALL), |request| {
        if room == 0 {
            return false;
        }
        room -= 1;
        sent.push(match request {
            Request::Subscribe { pattern, record } => (true, record.number, pattern.into(), record.latest),
            Request::Unsubscribe { number, pattern } => (false, number, pattern.into(), false),
        });
        true
    });
    sent
}

/// Those that want no kept values follow others of their pattern.
fn wants(latest: bool) -> Wants {
    Wants { latest, without_kept: true, ..Wants::default() }
}

fn outcomes<I: Index<HeapText>>(table: &mut Table<I>) -> Vec<(SubscriptionId, Result<(), SubscribeFailure>)> {
    core::iter::from_fn(|| table.poll_outcome()).collect()
}

/// Looks for each of `count` subscriptions that are made, acknowledged, made again after a loss, and ended, one after the other.
fn cost(count: u32) -> u64 {
    let (mut table, now) = (table::<HeapIndex>(), Instant::ZERO);
    LOOKS.set(0);
    let mut ids = Vec::new();
    for index in 0..count {
        ids.extend(table.add(text(&format!("a.{index}")), wants(index % 2 == 0)));
        assert_eq!(requests(&mut table, now, 1).len(), 1);
    }
    for round in 0..2 {
        for id in &ids {
            ack(&mut table, id.0, None);
            assert_eq!(outcomes(&mut table), [(*id, Ok(()))]);
            assert!(requests(&mut table, now, 1).is_empty());
        }
        assert_eq!(table.active(), count);
        if round == 0 {
            table.on_disconnect();
            // They are asked for again as there is room.
            let again: Vec<_> = (0..count).flat_map(|_| requests(&mut table, now, 1)).collect();
            assert_eq!(again.len(), count as usize);
        }
    }
    for id in &ids {
        assert!(table.remove(*id));
        assert_eq!(requests(&mut table, now, 1).len(), 1);
        assert!(outcomes(&mut table).is_empty());
    }
    assert_eq!(table.active(), 0);
    LOOKS.get() / u64::from(count)
}

#[test]
fn what_a_subscription_costs_hardly_grows_with_their_number() {
    let (few, many) = (cost(1_000), cost(16_000));
    // It is found by halving: four steps more each time that it is looked for.
    assert!(many < few + 80 && many < 300, "{few} looks for each of a thousand, {many} of sixteen thousand");
}

#[test]
fn two_thousand_subscriptions_to_one_pattern_ask_once() {
    let (mut table, now) = (table::<HeapIndex>(), Instant::ZERO);
    for _ in 0..2_000 {
        table.add(text("same"), wants(false));
    }
    assert_eq!(requests(&mut table, now, 10), [(true, 1, "same".into(), false)]);
    ack(&mut table, 1, None);
    assert_eq!(outcomes(&mut table).len(), 2_000);
    for id in 1..=2_000 {
        assert!(table.remove(SubscriptionId(id)));
        let left = requests(&mut table, now, 10);
        assert_eq!(left.len(), usize::from(id == 2_000), "only the last to leave says so: {left:?}");
    }
}

#[cfg(feature = "properties")]
#[test]
fn who_wants_kept_values_asks_even_if_others_of_its_pattern_have() {
    let (mut table, now) = (table::<HeapIndex>(), Instant::ZERO);
    for _ in 0..3 {
        table.add(text("same"), Wants::default());
    }
    table.add(text("same"), wants(false));
    assert_eq!(requests(&mut table, now, 10).len(), 3);
    ack(&mut table, 2, None);
    assert_eq!(outcomes(&mut table).len(), 4, "the server knows the pattern, which is all that they wait for");
    table.add(text("same"), wants(false));
    table.add(text("same"), Wants::default());
    assert_eq!(requests(&mut table, now, 10), [(true, 6, "same".into(), false)]);
    for id in 1..=6 {
        assert!(table.remove(SubscriptionId(id)));
        assert_eq!(requests(&mut table, now, 10).len(), usize::from(id == 6));
    }
}

/// What one that wants the latest only is told says nothing to those that want every message and have asked for it.
#[test]
fn who_waits_for_another_one_is_told_when_that_one_is() {
    let (mut table, now) = (table::<HeapIndex>(), Instant::ZERO);
    let all = [true, false, false].map(|latest| table.add(text("same"), wants(latest)).unwrap());
    assert_eq!(requests(&mut table, now, 10).len(), 2);
    ack(&mut table, all[0].0, None);
    assert_eq!(outcomes(&mut table), [(all[0], Ok(()))]);
    ack(&mut table, all[1].0, None);
    assert_eq!(outcomes(&mut table), [(all[1], Ok(())), (all[2], Ok(()))]);
}

#[test]
fn an_index_changes_nothing_but_the_cost() {
    let mut rng = Rng::with_seed(17);
    for _ in 0..50 {
        let (mut with, mut without) = (table::<HeapIndex>(), table::<NoIndex>());
        let (mut now, mut last) = (Instant::ZERO, 0);
        for _ in 0..400 {
            let id = rng.u32(1..=last.max(1));
            match rng.u8(..20) {
                0..7 => {
                    let (pattern, latest) = (text(["a", "b", "c", "d.*"][rng.usize(..4)]), rng.bool());
                    let wants = Wants { latest, without_kept: rng.u8(..3) > 0, ..Wants::default() };
                    let added = with.add(pattern.clone(), wants.clone());
                    assert_eq!(added, without.add(pattern, wants));
                    last = added.unwrap().0;
                }
                7..11 => assert_eq!(with.remove(SubscriptionId(id)), without.remove(SubscriptionId(id))),
                11..16 => {
                    let refusal = (rng.u8(..4) == 0).then_some(Refusal::TooManySubscriptions);
                    ack(&mut with, id, refusal);
                    ack(&mut without, id, refusal);
                }
                16..18 => now += Duration::from_secs(rng.u32(..4).into()),
                18 if rng.u8(..4) == 0 => {
                    with.on_disconnect();
                    without.on_disconnect();
                }
                _ => {
                    assert_eq!(outcomes(&mut with), outcomes(&mut without));
                }
            }
            let room = rng.usize(..4);
            assert_eq!(requests(&mut with, now, room), requests(&mut without, now, room));
            assert_eq!((with.active(), with.is_unanswered()), (without.active(), without.is_unanswered()));
            assert_eq!(with.next_timeout(), without.next_timeout());
        }
    }
}
