//! What whoever runs a server sees of it, and does: sessions, patterns, and an end for one of them.

mod support;

use std::collections::{HashMap, HashSet};

use kcpq_core::broker::ClientKind;
use kcpq_core::hello::CloseReason;
use kcpq_smol::{Client, Disconnect, Event};
use kcpq_std_server::{Config, Server, Session, View};
use support::wait::{LIMIT, soon, until};

fn serve(shards: usize) -> Server {
    let shards = if cfg!(target_os = "linux") { shards } else { 1 };
    Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), shards, ..Config::default() }).unwrap()
}

fn named(view: &View, client: &str) -> Option<Session> {
    view.sessions().find(|session| session.client.as_deref() == Some(client))
}

#[test]
fn sessions_and_patterns_of_all_threads_are_shown_while_they_work() {
    let server = serve(3);
    let view = server.view();
    assert_eq!((view.sessions().count(), view.patterns().unwrap().len()), (0, 0));
    smol::block_on(async {
        let mut clients = Vec::new();
        for index in 0..20 {
            let client = Client::builder().timeout(LIMIT).connect(server.local_addr()).await.unwrap();
            let own = client.subscribe(&format!("own.{index}")).await.unwrap();
            let all = client.subscribe("all.>").await.unwrap();
            clients.push((client, own, all));
        }
        for index in 0..20 {
            clients[0].0.publish(&format!("own.{index}"), "x").await.unwrap();
        }
        clients[0].0.publish("all.a", "x").await.unwrap();
        for (_, own, all) in &mut clients {
            soon("a message of its own", own.next()).await.unwrap();
            soon("a message for all", all.next()).await.unwrap();
        }
        let sessions: Vec<_> = view.sessions().collect();
        assert_eq!(sessions.len(), 20);
        assert_eq!(sessions.iter().map(|session| session.id).collect::<HashSet<_>>().len(), 20);
        assert_eq!(sessions.iter().map(|session| session.peer).collect::<HashSet<_>>().len(), 20);
        for session in &sessions {
            assert_eq!(
                (session.kind, session.subscriptions, session.messages.messages_out),
                (ClientKind::Native, 2, 2)
            );
            assert!(session.id.shard() < view.shards() && session.peer.ip().is_loopback());
        }
        assert_eq!(sessions.iter().map(|session| session.messages.messages_in).sum::<u64>(), 21);
        let mut wanted: HashMap<Box<str>, _> = (0..20).map(|index| (format!("own.{index}").into(), (1, 1))).collect();
        wanted.insert("all.>".into(), (20, 1));
        let patterns = view.patterns().unwrap().into_iter();
        let patterns = patterns.map(|(text, pattern)| (text, (pattern.subscribers, pattern.messages)));
        assert_eq!(patterns.collect::<HashMap<_, _>>(), wanted);
        let counters = view.counters().unwrap();
        assert_eq!(counters.iter().map(|shard| shard.broker.messages_in).sum::<u64>(), 21);
        // What had been counted when the sessions were shown.
        let received: u64 = sessions.iter().map(|session| session.transport.segments_received).sum();
        assert!(counters.iter().map(|shard| shard.transport.segments_received).sum::<u64>() >= received);
        assert!(view.answers(LIMIT));
        assert_eq!(view.receive_queues().is_some(), cfg!(target_os = "linux"));
    });
    server.shutdown();
    // Nobody is there any more, and nobody waits for them.
    assert!(view.snapshot().is_none() && view.counters().is_none() && view.patterns().is_none());
    assert!(view.sessions().next().is_none() && !view.answers(LIMIT));
}

#[test]
fn who_is_kicked_is_told_why_and_comes_back_as_another() {
    let server = serve(2);
    let view = server.view();
    smol::block_on(async {
        let builder = Client::builder().timeout(LIMIT).name(["ro", "ver"].concat());
        let client = builder.connect(server.local_addr()).await.unwrap();
        let mut events = client.events();
        let session = named(&view, "rover").unwrap();
        assert!(server.kick(session.id));
        let why = soon("the end", async {
            loop {
                if let Event::Disconnected { why, .. } = events.next().await.unwrap() {
                    return why;
                }
            }
        });
        assert_eq!(why.await, Disconnect::ByServer(CloseReason::Kicked));
        until("it is back", || named(&view, "rover").is_some_and(|now| now.id != session.id)).await;
        assert!(!server.kick(session.id), "an id is never another's");
        assert_eq!(view.snapshot().unwrap().broker.sessions_kicked, 1);
    });
    server.shutdown();
}

/// Looks from several threads go on while messages flow, and none of these is lost.
#[test]
fn looking_does_not_disturb_what_is_delivered() {
    let server = serve(2);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (view, stop) = (server.view(), &stop);
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(view.sessions().count() <= 4);
                    assert!(view.patterns().is_some());
                    std::thread::yield_now();
                }
            });
        }
        let delivered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            smol::block_on(async {
                let subscriber =
                    Client::builder().timeout(LIMIT).capacity(10_000).connect(server.local_addr()).await.unwrap();
                let publisher = Client::builder().timeout(LIMIT).connect(server.local_addr()).await.unwrap();
                let mut subscription = subscriber.subscribe("n").await.unwrap();
                for number in 0..2_000_u32 {
                    publisher.publish("n", number.to_be_bytes()).await.unwrap();
                }
                for number in 0..2_000_u32 {
                    let message = soon("a message", subscription.next()).await.unwrap();
                    assert_eq!(message.payload(), number.to_be_bytes());
                }
            });
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        delivered.unwrap();
    });
    server.shutdown();
}
