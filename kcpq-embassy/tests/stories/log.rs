//! Events as lines of the log.

use std::cell::RefCell;

use kcpq_embassy::Event;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::world::{CLEAN, World};

thread_local! {
    /// Each test is a thread.
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push((record.level(), record.args().to_string())));
    }

    fn flush(&self) {}
}

#[test]
fn what_is_lost_is_a_warning() {
    log::set_logger(&Lines).expect("no other test has one");
    log::set_max_level(LevelFilter::Info);
    let mut world = World::new();
    let (a, b) = (world.client(CLEAN), world.client(CLEAN));
    let subscription = world.block_on("acknowledgement", async move { b.subscribe("left.unread").await.unwrap() });
    world.block_on("event", async move {
        a.publish("left.unread", b"?").await.unwrap();
        while b.next_event().await != Event::Unread(subscription.id()) {}
        b.close().await;
    });
    let lines = LINES.take();
    let count = |level, begin: &str| lines.iter().filter(|(at, line)| *at == level && line.starts_with(begin)).count();
    assert_eq!((count(Level::Info, "Connected"), count(Level::Warn, "Unread")), (2, 1), "{lines:?}");
    assert_eq!((count(Level::Info, "Closed"), lines.len()), (1, 4), "{lines:?}");
}
