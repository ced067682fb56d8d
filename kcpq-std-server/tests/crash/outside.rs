//! What is neither the server's nor its clients': the clock, and the network.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use smol::Timer;

use crate::child;
use crate::load::{Load, patient, quick};
use crate::server::Node;
use crate::support::folder::Folder;
use crate::support::network;
use crate::support::program::kcpq_after;
use crate::support::wait::{soon, until};
use crate::{absence, lived_through, measured, short_absence};

/// Debian's package `faketime`: what a program takes for the time of day is what a file says.
fn fake_clock() -> Option<PathBuf> {
    let libraries = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let found = libraries.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    if found.is_none() {
        let required = std::env::var_os("KCPQ_REQUIRE_FAKETIME").is_some_and(|value| value == "1");
        assert!(!required, "the library of Debian's package faketime is not here");
        println!("skipped: the clock is stepped by libfaketime (apt-get install faketime)");
    }
    found
}

#[test]
fn the_time_of_day_may_jump_and_nobody_notices() {
    let Some(library) = fake_clock() else { return };
    let folder = Folder::new("crash-clock");
    let offset = folder.write("offset", "+0");
    // In one step: whoever reads it finds one or the other.
    let step = |to: &str| fs::rename(folder.write("next", to), &offset).unwrap();
    let file = folder.0.join("values");
    let first = format!(
        "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1;",
        library.display(),
        offset.display(),
    );
    let node = Node::start_after(&first, &["--register", "none", "--kept-file", file.to_str().unwrap()]);
    // What the server takes for the day.
    let year = || node.document("/varz")["now"].as_str().unwrap()[..4].parse::<u32>().unwrap();
    let today = year();
    smol::block_on(async {
        let subscriber = child::Subscriber::start_by(&mut kcpq_after(&first), &node.addr, "load.*");
        let mut load = Load::start(&node.addr, 2, 2, quick).await;
        let client = patient().connect(&*node.addr).await.unwrap();
        client.publish("state", "for an hour").ttl(Duration::from_secs(3_600)).retain().await.unwrap();
        for (to, there) in [("+400d", today + 1), ("-800d", today - 2), ("+0", today)] {
            step(to);
            until("its clock is there", || (there..=there + 1).contains(&year())).await;
            load.go_on().await;
            let mut values = client.subscribe("state").await.unwrap();
            let value = soon("the value", values.next()).await.unwrap();
            assert!(value.is_kept() && value.age().is_some_and(|age| age < Duration::from_secs(600)), "{value:?}");
        }
        let outcome = load.finish().await;
        assert!(load.is_undisturbed() && outcome.is_all(2), "{outcome:?}");
        until("all is printed", || subscriber.printed() == outcome.published).await;
        until("all is counted", || node.counted().queued() == outcome.published * 3 + 3).await;
        let counted = node.counted();
        assert_eq!(counted.came(), outcome.published + 1);
        assert_eq!((counted.dropped_otherwise(&[]), counted.of("last_values_lapsed_total")), (0, 0), "{counted:?}");
        assert_eq!(counted.of("sessions_opened_total"), 6, "nobody came anew");
        assert_eq!(subscriber.end("-TERM").len() as u64, outcome.published);
        measured("clock stepped", &format!("{outcome:?}"));
    });
    node.end();
}

#[test]
fn the_network_goes_and_comes_and_the_sums_agree() {
    if !network::of_its_own("outside::the_network_goes_and_comes_and_the_sums_agree") {
        return;
    }
    let mut node = Node::start(&["--register", "none"]);
    // Over HTTP it is asked in the same network, when that is there.
    for longer in [false, true] {
        smol::block_on(async {
            let builder = if longer { quick } else { patient };
            let mut load = Load::start(&node.addr, 3, 4, builder).await;
            network::ip(&["link", "set", "lo", "down"]);
            if longer {
                load.lost().await;
            }
            Timer::after(if longer { absence() } else { short_absence() }).await;
            network::ip(&["link", "set", "lo", "up"]);
            let up = Instant::now();
            load.go_on().await;
            let back = up.elapsed();
            let outcome = load.finish().await;
            assert!(longer || load.is_undisturbed() && outcome.is_all(4), "{outcome:?}");
            let lived = lived_through(&node, &outcome, 4).await;
            let case = if longer { "network down until given up" } else { "network down" };
            measured(case, &format!("everybody back {back:.1?} after it was up; {outcome:?}; {lived}"));
        });
        node.kill();
        node.restart();
    }
    node.end();
}
