//! The client against a server in this process, over real sockets.

mod support;

use std::time::Duration;

use kcpq_smol::{
    Client, ConfirmError, ConfirmFailure, ConnectError, Event, FlushError, PropertyError, PublishError, PublishRefusal,
    RequestError, RequestFailure, Subject, SubscribeError, pattern, subject,
};

use support::{Server, run};

/// Far more than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_message_travels_from_publisher_to_subscriber() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        assert!(client.is_connected());
        let mut greetings = client.subscribe("greet.*").await.unwrap();
        client.publish("greet.world", "hello").await.unwrap();
        client.publish("other.world", "not for you").await.unwrap();
        client.publish("greet.moon", vec![7; 50_000]).await.unwrap();
        let message = greetings.next().await.unwrap();
        assert_eq!((message.subject(), message.payload()), ("greet.world", &b"hello"[..]));
        let message = greetings.next().await.unwrap();
        assert_eq!(message.subject(), "greet.moon");
        assert_eq!(message.into_payload(), vec![7; 50_000]);
        let stats = greetings.stats();
        assert_eq!((stats.received, stats.processed, stats.dropped, stats.queued), (2, 2, 0, 0));
        client.close().await.unwrap();
        assert!(greetings.next().await.is_none());
    });
    server.wait_for("the session ends", |view| view.sessions == 0);
}

#[test]
fn subjects_and_patterns_that_the_compiler_has_checked_are_taken_wherever_their_text_is() {
    const GREETING: Subject<'static> = subject!("greet.world");
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut greetings = client.subscribe(&pattern!("greet.*")).await.unwrap();
        client.publish(&GREETING, "one").reply_to(&subject!("greet.answers")).await.unwrap();
        client.try_publish(&GREETING, "two").unwrap();
        let question = client.request(&subject!("greet.moon"), "three").replies().await.unwrap();
        for text in ["one", "two", "three"] {
            assert_eq!(greetings.next().await.unwrap().text(), text);
        }
        drop(question);
    });
}

#[test]
fn headers_travel_with_a_message() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut orders = client.subscribe("orders.*").await.unwrap();
        let publish = client.publish("orders.new", "3 apples").header("Trace-Id", "7");
        let publish = publish.headers([("tag", "red"), ("tag", "grün")]).reply_to("answers.7");
        publish.ttl(Duration::from_secs(60)).await.unwrap();
        client.publish("orders.new", "plain").await.unwrap();
        let message = orders.next().await.unwrap();
        assert_eq!((message.subject(), message.payload()), ("orders.new", &b"3 apples"[..]));
        let headers = message.headers();
        assert!(headers.iter().eq([("Trace-Id", "7"), ("tag", "red"), ("tag", "grün")]), "{headers:?}");
        assert_eq!((headers.get("tag"), headers.get("Tag")), (Some("red"), None));
        assert!(headers.get_all("tag").eq(["red", "grün"]));
        assert_eq!(message.reply_to(), Some("answers.7"));
        assert_eq!(message.into_payload(), "3 apples");
        let message = orders.next().await.unwrap();
        assert!(message.payload() == b"plain" && message.headers().is_empty() && message.reply_to().is_none());

        let refused = client.publish("orders.new", "").header("two words", "").await;
        assert_eq!(refused, Err(PublishError::Refused(PublishRefusal::Properties(PropertyError::Name))));
    });
}

#[test]
fn a_publisher_is_told_who_has_its_message() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        assert_eq!(client.publish("a", "to nobody").confirmed().await, Ok(0));
        let mut received = client.subscribe("a").await.unwrap();
        assert_eq!(client.publish("a", "one").ttl(PATIENCE).header("x", "y").confirmed().within(PATIENCE).await, Ok(1));
        let message = received.next().await.unwrap();
        assert_eq!((message.payload(), message.headers().get("x")), (&b"one"[..], Some("y")));
        // Many at the same time.
        let published: Vec<_> = (0..500)
            .map(|_| {
                let client = client.clone();
                smol::spawn(async move { client.publish("a", "more").confirmed().within(PATIENCE).await })
            })
            .collect();
        for published in published {
            assert_eq!(published.await, Ok(1));
        }
        let refused = ConfirmError::Unpublished(PublishError::Refused(PublishRefusal::Closed));
        let mut sent = 502;
        // Nobody says anything, and nobody waits for ever; one that is not waited for is forgotten.
        server.pause(true);
        loop {
            sent += 1;
            match client.publish("a", "?").confirmed().within(Duration::from_millis(50)).await {
                Ok(sessions) => assert_eq!(sessions, 1, "it was still taking this one in"),
                Err(error) => break assert_eq!(error, ConfirmError::Failed(ConfirmFailure::TimedOut)),
            }
        }
        let dropped = client.publish("a", "?").confirmed();
        assert!(smol::future::poll_once(dropped.into_future()).await.is_none());
        server.pause(false);
        client.close().await.unwrap();
        assert_eq!(client.publish("a", "?").confirmed().await, Err(refused));
        server.wait_for("the session ends", |view| view.sessions == 0);
        assert_eq!(server.view().stats.messages_in, sent + 1);
    });
}

#[test]
fn requests_are_answered() {
    let server = Server::start();
    run(async {
        let [client, other] =
            [Client::connect(server.addr).await.unwrap(), Client::connect(server.addr).await.unwrap()];
        let nobody = client.request("double", "1").await;
        assert_eq!(nobody.map(|_| ()), Err(RequestError::Failed(RequestFailure::NoResponders)));

        let mut questions = other.subscribe("double").await.unwrap();
        let answering = smol::spawn({
            let other = other.clone();
            async move {
                while let Some(question) = questions.next().await {
                    let payload = [question.payload(), question.payload()].concat();
                    let answer = question.respond(&other, payload).header("by", "me");
                    // Who only publishes wants no answer.
                    assert_eq!(answer.await.is_ok(), question.reply_to().is_some());
                }
            }
        });
        client.publish("double", "no question").await.unwrap();
        let answer = client.request("double", "12").header("a", "b").await.unwrap();
        assert_eq!((answer.payload(), answer.headers().get("by")), (&b"1212"[..], Some("me")));
        // Many at the same time, short and long.
        let asked: Vec<_> = (0..500)
            .map(|n: usize| {
                let client = client.clone();
                smol::spawn(async move {
                    let payload = vec![n as u8; n * 7 % 3_000];
                    let answer = client.request("double", &payload).within(PATIENCE).await.unwrap();
                    assert_eq!(answer.payload(), [&payload[..], &payload].concat());
                })
            })
            .collect();
        for asked in asked {
            asked.await;
        }
        answering.cancel().await;
    });
}

#[test]
fn several_may_answer_a_request() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut questions = client.subscribe("who").await.unwrap();
        let mut replies = client.request("who", "").within(Duration::from_millis(200)).replies().await.unwrap();
        let question = questions.next().await.unwrap();
        for answer in ["you", "me"] {
            question.respond(&client, answer).await.unwrap();
        }
        assert_eq!(replies.next().await.unwrap().payload(), b"you");
        assert_eq!(replies.next().await.unwrap().payload(), b"me");
        assert_eq!(replies.failure(), None);
        assert!(replies.next().await.is_none() && replies.next().await.is_none());
        assert_eq!(replies.failure(), Some(RequestFailure::TimedOut));

        // Nobody waits for what nobody wants any more.
        let dropped = client.request("who", "").replies().await.unwrap();
        drop(dropped);
        questions.next().await.unwrap().respond(&client, "late").await.unwrap();
        let unanswered = client.request("who", "").within(Duration::from_millis(50)).await;
        assert_eq!(unanswered.map(|_| ()), Err(RequestError::Failed(RequestFailure::TimedOut)));
        assert_eq!(client.stats().client.unmatched, 1);
        let mut pending = client.request("who", "").replies().await.unwrap();
        client.close().await.unwrap();
        assert!(pending.next().await.is_none());
        assert_eq!(pending.failure(), Some(RequestFailure::Closed));
    });
}

#[test]
fn a_flush_is_ready_when_the_server_has_handled_what_was_published() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr.to_string()).await.unwrap();
        for _ in 0..1_000 {
            client.publish("a.b", [0; 100]).await.unwrap();
        }
        client.flush().await.unwrap();
    });
    server.wait_for("all have arrived", |view| view.stats.messages_in == 1_000);
}

#[test]
fn a_patient_flush_has_time_as_long_as_there_is_progress() {
    let server = Server::start();
    run(async {
        let client = Client::builder().max_datagram(1_400).connect(server.addr).await.unwrap();
        server.slow_down(1);
        client.publish("a", vec![0; 2_000_000]).await.unwrap();
        // More than 1,400 datagrams.
        let span = Duration::from_millis(700);
        assert_eq!(client.flush().within(span).await, Err(FlushError::TimedOut { after: span }));
        client.flush().within(span).patient().await.unwrap();
        server.pause(true);
        client.publish("a", "b").await.unwrap();
        let error = client.flush().within(span).patient().await.unwrap_err();
        assert_eq!(error, FlushError::TimedOut { after: span });
        server.pause(false);
    });
    server.wait_for("the message", |view| view.stats.messages_in > 0);
}

#[test]
fn a_closed_client_refuses_everything() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut events = client.events();
        client.close().await.unwrap();
        assert!(matches!(events.next().await, Some(Event::Closed)));
        assert!(events.next().await.is_none());
        let refused = client.publish("a", "b").await.unwrap_err();
        assert_eq!(refused.to_string(), "the client is closed");
        assert!(matches!(client.subscribe("a").await, Err(SubscribeError::Refused(_))));
        assert!(client.flush().await.is_err());
        client.close().await.unwrap();
    });
}

#[test]
fn errors_say_what_is_wrong() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        assert!(matches!(client.publish("a..b", "x").await, Err(PublishError::Refused(_))));
        assert!(matches!(client.publish("a.*", "x").await, Err(PublishError::Refused(_))));
        assert!(matches!(client.publish("a", vec![0; 10_000_000]).await, Err(PublishError::Refused(_))));
        assert!(matches!(client.subscribe("a.>.b").await, Err(SubscribeError::Refused(_))));
    });
    run(async {
        let error = Client::connect("no port").await.unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve 'no port'"), "{error}");
    });
}

#[test]
fn where_nobody_listens_connecting_fails_with_advice() {
    // Below the ports that the system gives to others.
    let free = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    run(async {
        // At once: the system says so.
        let error = Client::builder().timeout(PATIENCE).connect(free).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }));
        let text = format!("nobody listens at {free}: connection refused; is `kcpq serve` running there?");
        assert_eq!(error.to_string(), text);
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = silent.local_addr().unwrap();
        let error = Client::builder().timeout(Duration::from_millis(300)).connect(addr).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }));
        let text = format!("no server answered at {addr} within 300ms; is `kcpq serve` running there?");
        assert_eq!(error.to_string(), text);
    });
}
