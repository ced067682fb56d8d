//! SIGSTOP: of the server, for less and for longer than its clients wait, of a subscriber, and of a publisher.

use std::process::Command;
use std::time::Instant;

use smol::Timer;

use crate::child;
use crate::load::{Load, patient, quick};
use crate::server::Node;
use crate::support::folder::Folder;
use crate::support::go;
use crate::support::process::Process;
use crate::support::wait::{LIMIT, soon, until};
use crate::{absence, lived_through, measured, short_absence};

#[test]
fn a_server_that_hangs_for_less_than_its_clients_wait_loses_nothing() {
    let node = Node::start(&["--register", "none"]);
    let peer = go::peer();
    smol::block_on(async {
        let mut load = Load::start(&node.addr, 3, 4, patient).await;
        // Of the original's kind, without any idea of coming back.
        let count = ["-subject", "original", "-count", "500"];
        let originals = peer.map(|peer| {
            let patience = ["-timeout", "10m", "-read-timeout", "10m"];
            let mut sub =
                Process::spawn(Command::new(&peer).args(["sub", "-s", &node.addr]).args(count).args(patience));
            sub.expect_line("subscribed", LIMIT);
            let rate = ["-rate", "100", "-timeout", "10m"];
            let publisher = Process::spawn(Command::new(&peer).args(["pub", "-s", &node.addr]).args(count).args(rate));
            (sub, publisher)
        });
        load.go_on().await;
        node.process().signal("-STOP");
        Timer::after(short_absence()).await;
        node.process().signal("-CONT");
        let continued = Instant::now();
        load.go_on().await;
        let back = continued.elapsed();
        let originals = originals.map(|(sub, publisher)| {
            assert!(publisher.wait(LIMIT).status.success());
            let report = String::from_utf8(sub.wait(LIMIT).stdout).unwrap();
            serde_json::from_str::<serde_json::Value>(report.lines().last().unwrap()).unwrap()
        });
        if let Some(report) = &originals {
            for (what, count) in [("received", 500), ("lost", 0), ("duplicated", 0), ("reordered", 0), ("corrupt", 0)] {
                assert_eq!(report[what], count, "{report}");
            }
        }
        let outcome = load.finish().await;
        assert!(load.is_undisturbed() && outcome.is_all(4), "{outcome:?}");
        let original = originals.map_or(0, |_| 500);
        until("all is counted", || node.counted().came() == outcome.published + original).await;
        let counted = node.counted();
        assert_eq!(counted.queued(), outcome.published * 4 + original, "{counted:?}");
        assert_eq!(counted.dropped_otherwise(&[]), 0, "{counted:?}");
        measured("server stopped", &format!("everybody back {back:.1?} after it went on; {outcome:?}"));
    });
    node.end();
}

#[test]
fn of_a_server_that_hangs_for_longer_than_its_clients_wait_the_sums_agree() {
    let node = Node::start(&["--register", "none"]);
    smol::block_on(async {
        let mut load = Load::start(&node.addr, 3, 4, quick).await;
        node.process().signal("-STOP");
        load.lost().await;
        Timer::after(absence()).await;
        node.process().signal("-CONT");
        let continued = Instant::now();
        load.go_on().await;
        let back = continued.elapsed();
        let outcome = load.finish().await;
        let lived = lived_through(&node, &outcome, 4).await;
        measured(
            "server stopped until given up",
            &format!("everybody back {back:.1?} after it went on; {outcome:?}; {lived}"),
        );
    });
    node.end();
}

#[test]
fn a_subscriber_that_hangs_misses_what_its_queue_had_no_room_for_and_the_server_counts_it() {
    let node = Node::start(&["--register", "none", "--max-queued", "64k"]);
    smol::block_on(async {
        let mut hangs = child::Subscriber::start(&node.addr, "load.*");
        let mut load = Load::start(&node.addr, 1, 2, quick).await;
        hangs.prints(100);
        hangs.signal("-STOP");
        let dropped = || node.counted().dropped("slow_consumer");
        until("its queue is full", || dropped() > 0).await;
        Timer::after(absence()).await;
        hangs.signal("-CONT");
        let missed = dropped();
        // It goes on with what has waited, and then with what is new.
        let outcome = load.finish().await;
        assert!(outcome.is_all(2), "the others miss nothing: {outcome:?}");
        until("all is printed, or counted", || hangs.printed() + dropped() == outcome.published).await;
        let printed = hangs.end("-TERM");
        assert!(printed.is_sorted_by(|a, b| a < b), "each once, and in order");
        until("all is counted", || node.counted().came() == outcome.published).await;
        let counted = node.counted();
        assert_eq!(counted.of("sessions_opened_total"), 4, "it has kept its session");
        assert!(counted.dropped("slow_consumer") >= missed && missed > 0, "{counted:?}");
        assert_eq!(counted.dropped_otherwise(&["slow_consumer"]), 0, "{counted:?}");
        assert_eq!(printed.len() as u64 + counted.dropped("slow_consumer"), outcome.published, "{counted:?}");
        let figures = format!(
            "of {} it printed {}, and {} are counted",
            outcome.published,
            printed.len(),
            outcome.published - printed.len() as u64
        );
        measured("subscriber stopped", &figures);
    });
    node.end();
}

#[test]
fn a_publisher_that_hangs_goes_on_where_it_was() {
    const MESSAGES: u64 = 60_000;
    let folder = Folder::new("crash-hangs");
    let messages = child::messages(&folder, MESSAGES);
    let node = Node::start(&["--register", "none"]);
    smol::block_on(async {
        let client = quick().connect(&*node.addr).await.unwrap();
        let mut received = client.subscribe("load.0").await.unwrap();
        let publisher = child::publisher(&node.addr, "load.0", &messages);
        let mut expect = async |numbers: std::ops::Range<u64>| {
            for number in numbers {
                let message = soon("a message", received.next()).await.unwrap();
                assert_eq!(crate::load::number(&message.text()), number);
            }
        };
        expect(0..1_000).await;
        publisher.signal("-STOP");
        Timer::after(absence()).await;
        publisher.signal("-CONT");
        expect(1_000..MESSAGES).await;
        assert!(publisher.wait(LIMIT).status.success());
        until("all is counted", || node.counted().came() == MESSAGES).await;
        assert_eq!(node.counted().dropped_otherwise(&[]), 0);
        measured("publisher stopped", &format!("all of its {MESSAGES} messages came"));
    });
    node.end();
}
