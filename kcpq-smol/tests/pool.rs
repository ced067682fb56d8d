//! Several sessions used as one client, against a server in this process.

mod support;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kcpq_smol::{
    Backoff, Builder, Bytes, Client, CloseError, ConnectError, FlushError, Lane, RequestError, RequestFailure, Will,
};

use support::{Server, run, soon};

const SESSIONS: usize = 4;
const SUBJECTS: usize = 32;

fn quick() -> Builder {
    let backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(100) };
    Client::builder().timeout(support::LIMIT).reconnect(Some(backoff))
}

#[test]
fn messages_of_one_subject_stay_in_their_order_while_a_session_is_kicked_and_what_is_in_doubt_is_counted() {
    let server = Server::start();
    run(async {
        let pool = quick().name("pool").pool(SESSIONS).connect(server.addr).await.unwrap();
        let reader = Client::connect(server.addr).await.unwrap();
        let mut received = reader.subscribe("n.*").capacity(1 << 20).await.unwrap();
        let subjects: Vec<_> = (0..SUBJECTS).map(|index| format!("n.{index}")).collect();
        let (mut round, mut left) = (0_u64, None);
        // Until the session is gone, and a while more.
        while left != Some(0) {
            for subject in &subjects {
                pool.publish(subject, round.to_string()).await.unwrap();
            }
            round += 1;
            if round == 100 {
                server.kick("pool");
            }
            left = match left {
                None if pool.stats().client.connection_errors == 0 => None,
                left => Some(left.unwrap_or(200) - 1),
            };
        }
        support::wait_for("the session is back", || pool.stats().client.reconnects == 1 && pool.is_connected());
        let mut counts = pool.stats().client;
        assert_eq!(counts.messages_sent, round * SUBJECTS as u64);
        for subject in &subjects {
            pool.publish(subject, "end").await.unwrap();
        }
        pool.flush().await.unwrap();
        let (mut next, mut ended, mut missing) = (HashMap::new(), HashSet::new(), 0);
        while ended.len() < SUBJECTS {
            let message = soon(received.next()).await.unwrap();
            let subject = message.subject().to_owned();
            let next = next.entry(subject.clone()).or_insert(0);
            let number = if message.text() == "end" { round } else { message.text().parse().unwrap() };
            assert!(number >= *next, "{subject}: {number} after {next}");
            missing += number - *next;
            *next = number + 1;
            if number == round {
                assert!(ended.insert(subject), "it ends once");
            }
        }
        counts = pool.stats().client;
        assert!(missing <= counts.dropped_in_doubt, "{missing} are missing, {} in doubt", counts.dropped_in_doubt);
        let acknowledged = counts.messages_acknowledged + counts.dropped_in_doubt;
        assert_eq!(acknowledged, counts.messages_sent, "each is acknowledged or in doubt");
        assert_eq!((server.view().stats.sessions_kicked, counts.reconnects), (1, 1));
        pool.close().await.unwrap();
    });
}

#[test]
fn subjects_are_spread_and_each_keeps_its_session() {
    let server = Server::start();
    run(async {
        let pool = Client::builder().pool(SESSIONS).connect(server.addr).await.unwrap();
        assert!(pool.is_connected() && pool.sessions().len() == SESSIONS);
        for index in 0..1_000 {
            pool.publish(&format!("s.{index}"), "").await.unwrap();
            pool.clone().try_publish(&format!("s.{index}"), "").unwrap();
        }
        pool.flush().await.unwrap();
        let sent: Vec<_> = pool.sessions().iter().map(|session| session.stats().client.messages_sent).collect();
        assert!(sent.iter().all(|sent| *sent % 2 == 0 && (300..700).contains(sent)), "{sent:?}");
        let all = pool.stats();
        assert_eq!((all.client.messages_sent, all.client.messages_acknowledged), (2_000, 2_000));
        assert_eq!(all.transport.segments_sent, {
            pool.sessions().iter().map(|session| session.stats().transport.segments_sent).sum::<u64>()
        });
        assert!(all.client.connected && all.client.latency.samples >= SESSIONS as u64);
        server.wait_for("all have come", |view| view.stats.messages_in == 2_000);
    });
}

#[test]
fn what_a_client_can_do_a_pool_can() {
    let server = Server::start();
    run(async {
        let pool = Client::builder().pool(SESSIONS).connect(server.addr).await.unwrap();
        let (mut all, mut some) = (pool.subscribe(">").await.unwrap(), pool.subscribe("a.*").await.unwrap());
        assert_eq!(
            pool.publish("a.1", "one").lane(Lane::URGENT).latest().confirmed().await,
            Ok(1),
            "one copy for both"
        );
        pool.publish_bytes("a.1", Bytes::from(vec![7; 100_000])).await.unwrap();
        for received in [&mut all, &mut some] {
            assert_eq!(received.next().await.unwrap().payload(), b"one");
            assert_eq!(received.next().await.unwrap().payload(), [7; 100_000]);
        }
        let nobody = RequestError::Failed(RequestFailure::NoResponders);
        drop((all, some));
        pool.flush().within(support::LIMIT).patient().await.unwrap();
        assert_eq!(pool.request("sum", "1 2").await.unwrap_err(), nobody);
        let mut questions = pool.subscribe("sum").await.unwrap();
        let answer = smol::spawn({
            let pool = pool.clone();
            async move { pool.request("sum", "1 2").await }
        });
        let question = soon(questions.next()).await.unwrap();
        question.respond(pool.for_subject(question.subject()), "3").await.unwrap();
        assert_eq!(answer.await.unwrap().text(), "3");
        pool.drain().await.unwrap();
        assert!(questions.next().await.is_none());
        assert_eq!(pool.flush().await, Err(FlushError::Closed));
    });
    server.wait_for("all sessions end", |view| view.sessions == 0);
}

#[test]
fn what_closing_loses_is_the_sum_of_all_sessions() {
    let addr = Server::start().addr; // which is gone at once
    run(async {
        let pool = quick().pool(SESSIONS).connect_in_background(addr).unwrap();
        for index in 0..100 {
            pool.publish(&format!("s.{index}"), "").await.unwrap();
        }
        let queued: usize = (0..100).map(|index| 7 + format!("s.{index}").len()).sum();
        assert_eq!(pool.stats().queued, queued);
        assert_eq!(pool.close().await, Err(CloseError::Lost { messages: 100 }));
        assert_eq!(pool.stats().client.lost_on_close, 100);
        assert!(pool.publish("s.1", "").await.is_err());
    });
}

#[test]
fn a_pool_leaves_one_will_and_needs_all_its_sessions() {
    let server = Server::start();
    run(async {
        let reader = Client::connect(server.addr).await.unwrap();
        let mut gone = reader.subscribe("gone").await.unwrap();
        let builder = quick().name("pool").will(Will::new("gone", "will")).reconnect(None).pool(SESSIONS);
        let _pool = builder.clone().connect(server.addr).await.unwrap();
        server.wait_for("its will is left, once", |view| view.stats.wills == 1);
        for kicked in 1..=SESSIONS as u64 {
            server.kick("pool");
            server.wait_for("one is kicked", |view| view.stats.sessions_kicked == kicked);
        }
        server.wait_for("all have gone", |view| view.sessions == 1);
        reader.publish("gone", "end").await.unwrap();
        for expected in ["will", "end"] {
            assert_eq!(soon(gone.next()).await.unwrap().text(), expected);
        }
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        assert!(matches!(builder.connect(nobody).await, Err(ConnectError::Refused { .. })));
    });
}
