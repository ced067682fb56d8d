use core::net::SocketAddr;

use super::*;
use crate::time::Why;

type Places = Table<SocketAddr, &'static str>;

fn peer(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

/// Does something to a session that is taken out meanwhile.
fn with<T>(
    table: &mut Places,
    id: SessionId,
    work: impl FnOnce(&mut Places, &mut Slot<SocketAddr, &'static str>) -> T,
) -> T {
    let mut slot = table.take(id.slot).unwrap();
    let done = work(table, &mut slot);
    table.put_back(slot, false);
    done
}

fn forget(table: &mut Places, id: SessionId) {
    let slot = table.take(id.slot).unwrap();
    table.forget(&slot);
}

#[test]
fn sessions_of_a_host_are_counted_until_they_go_or_move() {
    let mut table = Places::new(1);
    let [a, b, unproved] = [1, 2, 3].map(|port| table.insert(peer(1, port), None, ""));
    let host = |host| Peer::host(&peer(host, 0));
    assert_eq!(table.of_host(host(1)), 0, "none is known to be there");
    assert_eq!(with(&mut table, a, Places::count), 1);
    assert_eq!(with(&mut table, b, Places::count), 2);
    forget(&mut table, unproved);
    assert_eq!(table.of_host(host(1)), 2);
    with(&mut table, a, |table, slot| table.move_to(slot, peer(2, 1)));
    assert_eq!((table.of_host(host(1)), table.of_host(host(2))), (1, 1));
    forget(&mut table, b);
    assert_eq!((table.of_host(host(1)), table.of_host(host(2))), (0, 1));
    assert_eq!(table.by_host.len(), 1, "nothing is kept of a host without sessions");
}

#[test]
fn the_newest_session_of_an_address_is_known_until_it_goes() {
    let mut table = Places::new(1);
    let [old, new] = [1, 2].map(|conv| table.insert(peer(1, 1), Some(conv), ""));
    assert_eq!(table.newest(peer(1, 1)), Some(new.slot));
    assert_eq!([1, 2].map(|conv| table.find(peer(1, 1), conv)), [Some(old.slot), Some(new.slot)]);
    forget(&mut table, old);
    assert_eq!((table.newest(peer(1, 1)), table.find(peer(1, 1), 1)), (Some(new.slot), None));
    assert_eq!(table.find(peer(1, 1), 2), Some(new.slot));
    forget(&mut table, new);
    assert_eq!((table.newest(peer(1, 1)), table.find(peer(1, 1), 2)), (None, None));
    assert_eq!((table.by_peer.len(), table.by_conv.len()), (0, 0));
}

#[test]
fn who_goes_takes_nothing_of_another_one_in_its_conversation() {
    let mut table = Places::new(1);
    let [old, new] = [1, 2].map(|_| table.insert(peer(1, 1), Some(7), ""));
    forget(&mut table, old);
    assert_eq!((table.find(peer(1, 1), 7), table.newest(peer(1, 1))), (Some(new.slot), Some(new.slot)));
}

#[test]
fn a_session_is_found_by_its_last_name_and_at_its_last_address() {
    let mut table = Places::new(1);
    let id = table.insert(peer(1, 1), Some(7), "");
    with(&mut table, id, |table, slot| {
        table.name(slot, 100);
        table.name(slot, 200);
        assert_eq!(slot.name(), Some(200));
        slot.elsewhere = Some(Elsewhere { peer: peer(2, 2), token: [0; 8], asked_at: Instant::ZERO });
        table.move_to(slot, peer(2, 2));
        assert!(slot.elsewhere.is_none());
    });
    assert_eq!([100, 200].map(|name| table.find_named(name)), [None, Some(id.slot)]);
    assert_eq!((table.find(peer(1, 1), 7), table.newest(peer(1, 1))), (None, None));
    assert_eq!((table.find(peer(2, 2), 7), table.newest(peer(2, 2))), (Some(id.slot), Some(id.slot)));
    forget(&mut table, id);
    assert_eq!((table.find_named(200), table.find(peer(2, 2), 7)), (None, None));
}

#[test]
fn places_are_used_again_and_ids_are_not() {
    let mut table = Places::new(1);
    table.set_shard(3);
    let [a, b] = ["a", "b"].map(|session| table.insert(peer(1, 1), None, session));
    assert_eq!((a.shard, a.slot, b.slot, table.len(), table.places()), (3, 0, 1, 2, 2));
    forget(&mut table, a);
    assert_eq!((table.len(), table.indices().as_slice()), (1, &[1][..]));
    let c = table.insert(peer(1, 1), None, "c");
    assert_eq!((c.slot, table.len(), table.places()), (a.slot, 2, 2));
    assert!(c != a);
    assert_eq!(table.iter().copied().collect::<Vec<_>>(), ["c", "b"]);
    let taken = table.take(0).unwrap();
    assert!(table.take(0).is_none() && table.get(0).is_none() && table.get_mut(0).is_none());
    assert_eq!((table.indices().as_slice(), table.get(1).unwrap().session), (&[1][..], "b"));
    table.put_back(taken, false);
    assert_eq!((table.get(0).unwrap().id, table.get_mut(1).unwrap().id), (c, b));
    assert!(table.get(2).is_none() && !table.has_ready());
}

#[test]
fn who_may_send_comes_once_and_before_those_that_have_had_much() {
    let mut table = Places::new(1);
    let [a, b, c] = ["a", "b", "c"].map(|session| table.insert(peer(1, 1), None, session));
    let next = |table: &mut Places, last| {
        let (slot, is_last) = table.take_ready(last)?;
        let session = slot.session;
        table.put_back(slot, false);
        Some((session, is_last))
    };
    assert!(!table.has_ready());
    let slot = table.take(c.slot).unwrap();
    table.put_last(slot);
    assert!(table.has_ready(), "one that goes last");
    assert_eq!(table.wake(a.slot).unwrap().session, "a");
    assert!(table.wake(a.slot).is_some(), "it stands there once");
    let slot = table.take(b.slot).unwrap();
    table.put_back(slot, true);
    let slot = table.take(b.slot).unwrap();
    table.put_back(slot, true);
    assert_eq!(next(&mut table, false), Some(("a", false)));
    assert_eq!(next(&mut table, true), Some(("c", true)), "in between");
    assert_eq!(next(&mut table, true), Some(("b", false)), "no other one waits");
    assert_eq!((next(&mut table, false), table.has_ready()), (None, false));
    let slot = table.take(c.slot).unwrap();
    table.put_last(slot);
    let slot = table.take(c.slot).unwrap();
    table.put_last(slot);
    assert_eq!([false, false].map(|last| next(&mut table, last)), [Some(("c", true)), None]);
    // One that has gone is passed over, and so is whoever has its place.
    table.wake(a.slot);
    table.wake(b.slot);
    forget(&mut table, a);
    assert_eq!(table.insert(peer(1, 1), None, "d").slot, a.slot);
    assert_eq!([false, false].map(|last| next(&mut table, last)), [Some(("b", false)), None]);
    assert_eq!(table.get(a.slot).unwrap().session, "d");
}

#[test]
fn timers_run_out_in_their_order_and_each_once() {
    let mut table = Places::new(1);
    let [a, b] = ["a", "b"].map(|session| table.insert(peer(1, 1), None, session));
    let at = |millis, why| Deadline { at: Instant::from_millis(millis), why };
    let due = |table: &mut Places, millis| table.expire(Instant::from_millis(millis)).map(|slot| slot.session);
    assert_eq!((table.poll_timeout(), due(&mut table, 1_000)), (None, None));
    for (id, deadline) in [(a, at(30, Why::Heartbeat)), (b, at(20, Why::AckDelay)), (a, at(40, Why::Retransmit))] {
        with(&mut table, id, |table, slot| table.arm(slot, deadline));
    }
    assert_eq!(table.poll_timeout(), Some(at(20, Why::AckDelay)));
    assert_eq!((due(&mut table, 19), due(&mut table, 20), due(&mut table, 20)), (None, Some("b"), None));
    assert_eq!(table.poll_timeout(), Some(at(30, Why::Heartbeat)), "a later time is not set");
    for _ in 0..2 {
        with(&mut table, a, |table, slot| table.arm(slot, at(25, Why::Pacing)));
    }
    assert_eq!(table.timers.len(), 2, "the same time is set once");
    assert_eq!(table.poll_timeout(), Some(at(25, Why::Pacing)), "an earlier one is");
    assert_eq!((due(&mut table, 50), due(&mut table, 50)), (Some("a"), None), "the entry of before is none any more");
    assert_eq!(table.poll_timeout(), None);
    // Those of one moment come in the order of their places, and whoever has gone has none.
    for id in [b, a] {
        with(&mut table, id, |table, slot| table.arm(slot, at(60, Why::Heartbeat)));
    }
    assert_eq!([due(&mut table, 60), due(&mut table, 60)], [Some("a"), Some("b")]);
    with(&mut table, a, |table, slot| table.arm(slot, at(70, Why::Heartbeat)));
    forget(&mut table, a);
    assert_eq!((due(&mut table, 70), table.poll_timeout()), (None, None));
}
