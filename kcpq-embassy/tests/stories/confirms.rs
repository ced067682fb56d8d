//! Messages whose publishers are told what became of them, over links that lose a tenth.

use futures_lite::future::{poll_once, zip};
use kcpq_embassy::{ConfirmError, ConfirmFailure, ConfirmMemory, LendError, StoreError};

use super::*;

/// A client that can wait to hear of two messages at a time.
fn client(world: &mut World, link: kcpq_core::sim::Config) -> Handle {
    let client = world.client(link);
    client.lend_confirms(memory()).unwrap();
    client
}

fn memory() -> &'static mut ConfirmMemory<2> {
    Box::leak(Box::new(ConfirmMemory::new()))
}

#[test]
fn a_publisher_is_told_how_many_sessions_have_each_of_its_messages() {
    const COUNT: u32 = 100;
    for link in [CLEAN, BAD] {
        let mut world = World::new();
        let (reader, writer) = (world.client(link), client(&mut world, link));
        let log = collect(&mut world, reader, "a.*");
        // Two at a time, each of a task of its own.
        let done = Rc::new(RefCell::new(Vec::new()));
        for (subject, sessions) in [("a.b", 1), ("b", 0)] {
            let done = done.clone();
            world.spawn(async move {
                for n in 0..COUNT {
                    let payload = n.to_be_bytes();
                    let told = writer.publish(subject, &payload).confirmed().within(Duration::from_secs(600));
                    assert_eq!(told.await, Ok(sessions));
                }
                done.borrow_mut().push(subject);
            });
        }
        world.run_until("the word of all", || done.borrow().len() == 2);
        world.run_until("all messages", || log.borrow().len() as u32 >= COUNT);
        assert!(*log.borrow() == numbers(0, COUNT), "once, and in order");
        assert_eq!(world.broker_stats().confirmed, 2 * u64::from(COUNT));
    }
}

#[test]
fn without_memory_for_another_one_it_is_refused_and_who_waits_no_more_makes_room() {
    let mut world = World::new();
    let (bare, writer) = (world.client(CLEAN), client(&mut world, CLEAN));
    assert_eq!(writer.lend_confirms(memory()), Err(LendError::Late));
    let refused = world.block_on("refusal", async move { bare.publish("a", b"").confirmed().await });
    assert_eq!(refused, Err(ConfirmError::TooMany), "none was lent");
    world.block_on("connection", async move { writer.connected().await.unwrap() });
    world.block_on("the word", async move {
        let ask = || Box::pin(async move { writer.publish("a", b"").confirmed().await });
        let (mut first, mut second) = (ask(), ask());
        assert!(poll_once(&mut first).await.is_none() && poll_once(&mut second).await.is_none());
        let third = writer.publish("a", b"").stored().await;
        assert_eq!(ask().await, Err(ConfirmError::TooMany));
        assert_eq!(third, Err(StoreError::TooMany));
        assert_eq!(writer.stats().client.messages_sent, 2);
        drop(first);
        assert_eq!(zip(ask(), second).await, (Ok(0), Ok(0)));
        assert_eq!(zip(ask(), ask()).await, (Ok(0), Ok(0)), "there is room for as many as ever");
    });
    assert_eq!((world.broker_stats().messages_in, world.broker_stats().confirmed), (5, 5));
}

/// Whoever reads a message may give up at that moment to wait for what became of another one.
#[test]
fn what_is_dropped_while_a_message_is_lent_is_forgotten_when_it_is_given_back() {
    let mut world = World::new();
    let writer = client(&mut world, CLEAN);
    world.block_on("the word", async move {
        let mut all = writer.subscribe("a").await.unwrap();
        let ask = || Box::pin(async move { writer.publish("b", b"").confirmed().await });
        let (mut first, mut second) = (ask(), ask());
        assert!(poll_once(&mut first).await.is_none() && poll_once(&mut second).await.is_none());
        writer.publish("a", b"").await.unwrap();
        all.next(|_| drop((first, second))).await.unwrap();
        assert_eq!(zip(ask(), ask()).await, (Ok(0), Ok(0)));
    });
}

#[test]
fn what_becomes_of_none_is_told_with_the_reason() {
    let mut world = World::new();
    let writer = client(&mut world, CLEAN);
    let refused = world.block_on("refusal", async move { writer.publish("a..b", b"").confirmed().await });
    assert!(matches!(refused, Err(ConfirmError::Unpublished(PublishError::Subject(_)))), "{refused:?}");
    let refused = world.block_on("refusal", async move { writer.publish("a", b"").stored().id("a\u{7}").await });
    assert_eq!(refused, Err(StoreError::Id));
    // It waits for the server, which says then that it has no store.
    let refused = world.block_on("refusal", async move { writer.publish("a", b"").stored().id("7").await });
    let Err(StoreError::Failed(why)) = &refused else { panic!("{refused:?}") };
    assert_eq!(
        (why.to_string().as_str(), why.is_in_doubt()),
        ("the server has no backbone that stores messages", false)
    );
    // Its time is over while the server is away, and while there is room for none in the queue nothing is published.
    world.set_away(true);
    let short = Duration::from_secs(1);
    let late =
        world.block_on("the end of its time", async move { writer.publish("a", b"").confirmed().within(short).await });
    assert_eq!(late, Err(ConfirmError::Failed(ConfirmFailure::TimedOut)));
    // The first ones go on into the window.
    for _ in 0..5 {
        world.run_for(Duration::from_millis(100));
        while writer.try_publish("a", &[7; 300]).is_ok() {}
    }
    let sent = writer.stats().client.messages_sent;
    let told = Rc::new(RefCell::new(Vec::new()));
    let copy = told.clone();
    world.spawn(async move {
        let outcome = writer.publish("a", &[7; 300]).confirmed().within(Duration::from_secs(600)).await;
        copy.borrow_mut().push(outcome);
    });
    world.run_for(Duration::from_secs(1));
    assert_eq!((writer.stats().client.messages_sent, told.borrow().len()), (sent, 0), "it waits for room");
    world.restart();
    world.set_away(false);
    world.run_until("the word", || !told.borrow().is_empty());
    assert_eq!(*told.borrow(), [Ok(0)]);
    // A server that is gone leaves what was on its way in doubt, and a client that is closed waits for nothing.
    let copy = told.clone();
    world.set_away(true);
    for _ in 0..2 {
        let copy = copy.clone();
        world.spawn(async move {
            let outcome = writer.publish("a", b"").confirmed().within(Duration::from_secs(600)).await;
            copy.borrow_mut().push(outcome);
        });
    }
    world.run_for(Duration::from_secs(1));
    world.restart();
    world.set_away(false);
    world.run_until("the word", || told.borrow().len() == 3);
    assert_eq!(told.borrow()[1..], [Err(ConfirmError::Failed(ConfirmFailure::InDoubt)); 2]);
    let copy = told.clone();
    world.set_away(true);
    world.spawn(async move {
        let outcome = writer.publish("a", b"").confirmed().within(Duration::from_secs(600)).await;
        copy.borrow_mut().push(outcome);
    });
    world.block_on("the end", async move { writer.close().await });
    world.run_until("the word", || told.borrow().len() == 4);
    assert_eq!(told.borrow()[3], Err(ConfirmError::Failed(ConfirmFailure::Closed)));
    let refused = world.block_on("refusal", async move { writer.publish("a", b"").confirmed().await });
    assert_eq!(refused, Err(ConfirmError::Unpublished(PublishError::Closed)));
}
