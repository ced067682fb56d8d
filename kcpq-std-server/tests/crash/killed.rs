//! SIGKILL: of the server under load, of a publisher, and of a subscriber.

use std::ops::Range;
use std::process::Command;
use std::time::Instant;

use kcpq_smol::Client;
use smol::Timer;

use crate::child;
use crate::load::{Load, SIZE, number, quick};
use crate::server::{Counted, Node};
use crate::support::folder::Folder;
use crate::support::go;
use crate::support::process::Process;
use crate::support::wait::{LIMIT, soon, until};
use crate::{absence, agree, measured};

/// Publishers and subscribers beside a server that is killed.
const PUBLISHERS: usize = 3;
const SUBSCRIBERS: usize = 4;
/// Bytes that may wait in a server for one session, and that may be under way to it (PROTOCOL.md 7).
const QUEUE: u64 = 1 << 20;
const UNDER_WAY: u64 = 1_500_000;

#[test]
fn of_a_server_that_is_killed_under_load_it_is_known_what_went_with_it() {
    let folder = Folder::new("crash-killed");
    let register = folder.0.join("register");
    let mut node = Node::start(&["--register", register.to_str().unwrap(), "--max-queued", "1M"]);
    smol::block_on(async {
        let mut load = Load::start(&node.addr, PUBLISHERS, SUBSCRIBERS, quick).await;
        // Nobody waits for the register: those who were just connected may not be in it yet, and come back all the same.
        node.kill();
        load.lost().await;
        Timer::after(absence()).await;
        node.restart();
        let restarted = Instant::now();
        load.go_on().await;
        let back = restarted.elapsed();
        let outcome = load.finish().await;
        // What the server that was killed had acknowledged: it may have waited there for each subscriber.
        let most = (QUEUE + UNDER_WAY) / SIZE as u64 * (PUBLISHERS * SUBSCRIBERS) as u64;
        assert!(outcome.missing_before <= most, "{outcome:?}");
        assert!(outcome.missing_in_doubt <= outcome.in_doubt * SUBSCRIBERS as u64, "{outcome:?}");
        // What was published behind it the new one has, all of it, and counts what it had nobody for.
        let later: u64 = load.publishers.iter().map(|publisher| publisher.published() - publisher.doubts[0].end).sum();
        until("the server has counted it", || node.counted().came() == later).await;
        let counted = node.counted();
        assert_eq!(counted.queued() + outcome.missing_after, later * SUBSCRIBERS as u64, "{outcome:?} {counted:?}");
        // What publishers have kept meanwhile comes at once: it may be more than a queue holds.
        assert!(counted.dropped("slow_consumer") <= outcome.missing_after, "{outcome:?} {counted:?}");
        assert_eq!(counted.dropped_otherwise(&["slow_consumer"]), 0, "{counted:?}");
        let all = outcome.missing_in_doubt + outcome.missing_before + outcome.missing_after;
        assert_eq!(outcome.received + all, outcome.published * SUBSCRIBERS as u64, "{outcome:?}");
        measured("server killed", &format!("everybody back {back:.1?} after its restart; {outcome:?}"));
    });
    node.end();
}

#[test]
fn a_publisher_that_is_killed_takes_only_what_had_not_left_it() {
    const KILLED_AFTER: u64 = 5_000;
    const MESSAGES: u64 = 400_000;
    let folder = Folder::new("crash-publisher");
    let messages = child::messages(&folder, MESSAGES);
    let node = Node::start(&["--register", "none", "--idle-timeout", "2s"]);
    smol::block_on(async {
        let client = quick().connect(&*node.addr).await.unwrap();
        let mut received = client.subscribe("load.0").await.unwrap();
        let publisher = child::publisher(&node.addr, "load.0", &messages);
        for expected in 0..KILLED_AFTER {
            assert_eq!(number(&soon("a message", received.next()).await.unwrap().text()), expected);
        }
        drop(publisher);
        until("its session ends", || node.counted().of("sessions_ended_total{reason=\"idle\"}") == 1).await;
        let counted = node.counted();
        assert!((KILLED_AFTER..MESSAGES).contains(&counted.came()), "{counted:?}");
        // All that the server had of it comes, whole and in order; of a frame that was cut off nothing is left.
        for expected in KILLED_AFTER..counted.came() {
            assert_eq!(number(&soon("a message", received.next()).await.unwrap().text()), expected);
        }
        assert_eq!((counted.queued(), counted.dropped_otherwise(&[])), (counted.came(), 0), "{counted:?}");
        until("its memory is given back", || node.counted().of("received_bytes") == 0).await;
        assert_eq!(received.try_next().map(|message| message.text().into_owned()), None);
        measured("publisher killed", &format!("{} messages had left it, and came", counted.came()));
    });
    node.end();
}

#[test]
fn what_a_subscriber_that_is_killed_had_not_read_is_counted() {
    let node = Node::start(&["--register", "none", "--idle-timeout", "2s"]);
    // One that is killed while it reads, and one that has stopped reading before that.
    for stops in [false, true] {
        smol::block_on(async {
            let before = node.counted();
            let ended = || node.counted().of("sessions_ended_total{reason=\"idle\"}");
            let ended_before = ended();
            let mut killed = child::Subscriber::start(&node.addr, "load.*");
            let mut load = Load::start(&node.addr, 1, 1, quick).await;
            killed.prints(100);
            if stops {
                killed.signal("-STOP");
                load.go_on().await;
            }
            let printed = killed.end("-KILL");
            assert!(printed.iter().copied().eq(0..printed.len() as u64), "whole, and in order");
            until("its session ends", || ended() > ended_before).await;
            let outcome = load.finish().await;
            // The other one misses nothing.
            assert!(outcome.is_all(1), "{outcome:?}");
            let printed = printed.len() as u64;
            let said = agree(|| {
                let counted = node.counted();
                let since = |count: fn(&Counted) -> u64| count(&counted) - count(&before);
                let queued = since(Counted::queued) - outcome.published.min(since(Counted::queued));
                let closed = since(|counted| counted.dropped("closed"));
                let otherwise = since(|counted| counted.dropped_otherwise(&["closed"]));
                // What it had acknowledged and not printed went with it: what it was about to print. What it had printed and not
                // acknowledged counts as not delivered.
                let taken = queued.abs_diff(printed + closed);
                let said = format!("{queued} queued for it, {printed} printed, {closed} counted, {taken} taken");
                let came = since(Counted::came) == outcome.published;
                let enough = !stops || closed >= 100;
                if came && otherwise == 0 && enough && taken * SIZE as u64 <= 64 << 10 { Ok(said) } else { Err(said) }
            })
            .await;
            let how = if stops { "subscriber stopped, then killed" } else { "subscriber killed" };
            measured(how, &said);
        });
    }
    node.end();
}

/// A client of the original's kind that connects again by itself, and hears numbered messages of a kind that it can judge.
#[test]
fn a_subscriber_of_the_original_is_back_and_hears_nothing_twice() {
    const MESSAGES: u64 = 200;
    let Some(peer) = go::peer() else { return };
    let mut node = Node::start(&["--register", "none"]);
    let patience = ["-reconnect", "-ping", "500ms", "-read-timeout", "2s", "-timeout", "10m"];
    let args = ["sub", "-s", &node.addr, "-subject", "original", "-count", "400"];
    let mut subscriber = Process::spawn(Command::new(peer).args(args).args(patience));
    subscriber.expect_line("subscribed", LIMIT);
    smol::block_on(async {
        publish(&node, 0..MESSAGES).await;
        until("it has acknowledged them", || {
            let sessions = node.document("/connz?kind=original");
            let session = &sessions["connections"][0];
            session["out_msgs"] == MESSAGES && session["pending_bytes"] == 0 && session["unacked_bytes"] == 0
        })
        .await;
    });
    node.kill();
    smol::block_on(Timer::after(absence()));
    node.restart();
    subscriber.expect_line("subscribed", LIMIT);
    smol::block_on(publish(&node, MESSAGES..2 * MESSAGES));
    let output = subscriber.wait(LIMIT);
    let report = String::from_utf8(output.stdout).unwrap();
    let report: serde_json::Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    for (what, count) in [("received", 2 * MESSAGES), ("lost", 0), ("duplicated", 0), ("reordered", 0), ("corrupt", 0)]
    {
        assert_eq!(report[what], count, "{report}");
    }
    measured("server killed, a subscriber of the original", &report.to_string());
    node.end();
}

/// Publishes messages of the kind that peers in Go judge.
async fn publish(node: &Node, numbers: Range<u64>) {
    let client = Client::builder().timeout(LIMIT).connect(&*node.addr).await.unwrap();
    for number in numbers {
        client.publish("original", go::message(number, SIZE)).await.unwrap();
    }
    client.close().await.unwrap();
}
