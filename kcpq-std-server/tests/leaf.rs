//! Servers that are leaf nodes of real NATS servers: they are handed what they want, and hand over what is wanted.

mod support;

use std::time::Duration;

use futures_lite::future::zip;
use kcpq_core::puback::Stored;
use kcpq_smol::{Client, RequestError, RequestFailure, Subscription};
use kcpq_std_server::{Backbone, NatsAddress, NatsTls, Server};
use serde_json::json;
use smol::Timer;
use support::certificate;
use support::edge::{bind, client, drain, everybody_gets_everything, joined, next, serve, stats, view};
use support::folder::Folder;
use support::jetstream;
use support::nats::{self, Nats, NatsClient};
use support::port;
use support::wait::{soon, until, until_async};

fn leaf(urls: &[String]) -> Backbone {
    Backbone { leaf: urls.iter().map(|url| NatsAddress::leaf(url).unwrap()).collect(), ..Backbone::default() }
}

/// Messages that did not leave a server, since nobody wanted them there.
fn stayed(server: &Server) -> u64 {
    server.view().snapshot().unwrap().broker.no_interest
}

/// Waits until a subscription elsewhere is known where somebody publishes: that is told a moment later than it is acknowledged.
async fn known(from: &Client, at: &mut Subscription, subject: &str) {
    until_async("it is known there", async || {
        from.publish(subject, "probe").await.unwrap();
        Timer::after(Duration::from_millis(5)).await;
        !drain(at).await.is_empty()
    })
    .await;
    from.publish(subject, "end").await.unwrap();
    while next(at).await != "end" {}
}

#[test]
fn of_one_hub_everybody_gets_everything_once_and_in_order() {
    if nats::is_there() {
        let folder = Folder::new("leaf-one");
        let nats = Nats::with_leafs(&folder, "", "", &[]);
        let as_client = Backbone { servers: vec![nats.url().parse().unwrap()], ..Backbone::default() };
        let leafs = [nats.leaf_url()];
        everybody_gets_everything(vec![leaf(&leafs), leaf(&leafs), as_client], nats.client());
    }
}

#[test]
fn of_a_cluster_everybody_gets_everything_once_and_in_order() {
    if nats::is_there() {
        let folder = Folder::new("leaf-cluster");
        let cluster = nats::cluster_by(3, |args| Nats::with_leafs(&folder, "", "", args));
        let backbones = cluster.iter().map(|nats| leaf(&[nats.leaf_url()])).collect();
        everybody_gets_everything(backbones, cluster[0].client());
    }
}

#[test]
fn what_nobody_wants_does_not_leave_the_server_and_what_somebody_wants_does() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-home");
    let nats = Nats::with_leafs(&folder, "", "", &[]);
    smol::block_on(async {
        let server = serve(leaf(&[nats.leaf_url()])).await;
        let client = client(&server).await;
        let mut received = client.subscribe("a.>").await.unwrap();
        for number in 0..100 {
            client.publish("a.b", number.to_string()).await.unwrap();
        }
        for number in 0..100 {
            assert_eq!(next(&mut received).await, number.to_string());
        }
        assert_eq!((stats(&server).messages_out, stayed(&server)), (0, 100));
        let mut there = nats.client();
        let before = stats(&server).wants;
        there.subscribe("a.*", None);
        until("it is known that somebody wants it", || stats(&server).wants > before).await;
        client.publish("b.a", "not this").await.unwrap();
        client.publish("a.b", "this").await.unwrap();
        assert_eq!((there.next().text, next(&mut received).await), ("this".into(), "this".into()));
        there.publish("a.c", None, "from there");
        assert_eq!(next(&mut received).await, "from there");
        there.unsubscribe();
        until("nobody wants it any more", || stats(&server).wants == before).await;
        let stayed_before = stayed(&server);
        client.publish("a.b", "nor that").await.unwrap();
        assert_eq!(next(&mut received).await, "nor that");
        assert_eq!((stats(&server).messages_out, stayed(&server)), (1, stayed_before + 1));
    });
}

#[test]
fn headers_ttl_answers_and_a_prefix_cross_as_a_client_has_them() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-headers");
    let nats = Nats::with_leafs(&folder, "", "", &[]);
    smol::block_on(async {
        let server = serve(Backbone {
            export: ["up.>".into()].into(),
            import: ["down.>".into()].into(),
            prefix: "site.7".into(),
            ..leaf(&[nats.leaf_url()])
        })
        .await;
        let client = client(&server).await;
        let mut there = nats.client();
        let before = stats(&server).wants;
        there.subscribe("site.*.>", None);
        until("it is wanted", || stats(&server).wants > before).await;
        client.publish("up.a", "21.5").header("Unit", "°C").ttl(Duration::from_secs(60)).await.unwrap();
        client.publish("inside", "stays").await.unwrap();
        client.publish("up.b", "next").await.unwrap();
        let heard = there.next();
        assert!(heard.headers.starts_with("NATS/1.0\r\nUnit: °C\r\nKcpq-Ttl-Ms: "), "{heard:?}");
        assert_eq!((&*heard.subject, &*heard.text, &*there.next().text), ("site.7.up.a", "21.5", "next"));
        let mut received = client.subscribe(">").await.unwrap();
        there.publish("site.7.up.x", None, "not to come in");
        there.publish_with("site.7.down.a", "Unit: F\r\n", "70");
        let message = soon("the message", received.next()).await.unwrap();
        assert_eq!((message.subject(), &*message.text()), ("down.a", "70"));
        assert!(message.headers().iter().eq([("Unit", "F")]), "{message:?}");
    });
}

#[test]
fn one_member_of_a_queue_group_gets_each_message_and_first_one_of_its_own_server() {
    if !nats::is_there() {
        return;
    }
    const COUNT: usize = 600;
    let folder = Folder::new("leaf-groups");
    let nats = Nats::with_leafs(&folder, "", "", &[]);
    smol::block_on(async {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(serve(leaf(&[nats.leaf_url()])).await);
        }
        let before = stats(&servers[2]).wants;
        let mut members = Vec::new();
        for server in [&servers[0], &servers[0], &servers[1]] {
            let client = client(server).await;
            members.push((client.subscribe("jobs.>").queue("workers").await.unwrap(), client));
        }
        let mut there = nats.client();
        there.subscribe("jobs.*", Some("workers"));
        // The third server has none; others have to have told it of theirs.
        until("it knows of the group, with both patterns", || stats(&servers[2]).wants == before + 2).await;
        let (home, away) = (client(&servers[0]).await, client(&servers[2]).await);
        for number in 0..COUNT {
            match number % 3 {
                0 => home.publish("jobs.x", number.to_string()).await.unwrap(),
                1 => away.publish("jobs.x", number.to_string()).await.unwrap(),
                _ => there.publish("jobs.x", None, &number.to_string()),
            }
        }
        there.flush();
        let (mut got, mut at_home) = (Vec::new(), 0);
        until_async("each message at a member", async || {
            for (place, (member, _)) in members.iter_mut().enumerate() {
                for message in drain(member).await {
                    let number = message.text().parse::<usize>().unwrap();
                    assert!(number % 3 != 0 || place < 2, "{number} has left a server with members");
                    at_home += usize::from(number.is_multiple_of(3));
                    got.push(number);
                }
            }
            while let Some(message) = there.try_next(Duration::from_millis(1)) {
                got.push(message.text.parse().unwrap());
            }
            got.len() >= COUNT
        })
        .await;
        got.sort_unstable();
        assert!(got.into_iter().eq(0..COUNT), "each once");
        assert_eq!((at_home, stats(&servers[0]).messages_out), (COUNT / 3, 0));
    });
}

#[test]
fn requests_go_both_ways_and_who_asks_hears_at_once_that_nobody_is_there() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-requests");
    let nats = Nats::with_leafs(&folder, "", "", &[]);
    smol::block_on(async {
        let (first, second) = (serve(leaf(&[nats.leaf_url()])).await, serve(leaf(&[nats.leaf_url()])).await);
        let (asks, answers) = (client(&first).await, client(&second).await);
        let nobody = asks.request("ask", "?").await.unwrap_err();
        assert!(matches!(nobody, RequestError::Failed(RequestFailure::NoResponders)), "{nobody}");
        assert_eq!((stats(&first).messages_out, stats(&first).nobody), (0, 0), "its own broker knows");
        let mut there = nats.client();
        there.subscribe("_INBOX.there.*", None);
        there.publish("ask", Some("_INBOX.there.1"), "?");
        assert!(there.next().headers.starts_with("NATS/1.0 503"));

        let mut asked = answers.subscribe("ask").await.unwrap();
        known(&asks, &mut asked, "ask").await;
        let answer = async {
            for _ in 0..2 {
                let message = soon("the question", asked.next()).await.unwrap();
                answers.publish(message.reply_to().unwrap(), format!("to {}", message.text())).await.unwrap();
            }
        };
        let questions = async {
            assert_eq!(asks.request("ask", "kcpq").await.unwrap().text(), "to kcpq");
            there.publish("ask", Some("_INBOX.there.2"), "nats");
            there.flush();
        };
        zip(answer, questions).await;
        let answered = there.next();
        assert_eq!((&*answered.subject, &*answered.text), ("_INBOX.there.2", "to nats"));

        // A service in a group at NATS answers.
        there.subscribe("ask.there", Some("services"));
        until_async("it is known there", async || {
            asks.publish("ask.there", "probe").await.unwrap();
            there.try_next(Duration::from_millis(5)).is_some()
        })
        .await;
        let mut replies = asks.request("ask.there", "?").replies().await.unwrap();
        let reply = loop {
            if let Some(reply) = there.next().reply {
                break reply;
            }
        };
        assert!(reply.starts_with("_INBOX.kcpq"), "{reply}");
        for text in ["one", "two"] {
            there.publish(&reply, None, text);
        }
        there.flush();
        for text in ["one", "two"] {
            assert_eq!(soon("an answer", replies.next()).await.unwrap().text(), text);
        }
    });
}

#[test]
fn a_hub_is_killed_and_comes_back_and_what_waited_goes_to_who_wants_it() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-restart");
    let mut nats = Nats::with_leafs(&folder, "", "", &[]);
    smol::block_on(async {
        let (first, second) = (serve(leaf(&[nats.leaf_url()])).await, serve(leaf(&[nats.leaf_url()])).await);
        let (publishes, hears) = (client(&first).await, client(&second).await);
        let mut received = hears.subscribe("wanted").await.unwrap();
        known(&publishes, &mut received, "wanted").await;
        for round in 0..2 {
            publishes.publish("wanted", format!("before {round}")).await.unwrap();
            assert_eq!(next(&mut received).await, format!("before {round}"));
            nats.kill();
            until("it is noticed", || stats(&first).joined + stats(&second).joined == 0).await;
            assert_eq!(stats(&first).wants, 0);
            for subject in ["unwanted", "wanted"] {
                publishes.publish(subject, format!("meanwhile {round}")).await.unwrap();
            }
            until("it waits", || stats(&first).waiting == 2).await;
            nats.restart();
            assert_eq!(next(&mut received).await, format!("meanwhile {round}"));
            until("all has gone", || stats(&first).waiting == 0).await;
            assert_eq!(stats(&first).no_interest, round + 1);
        }
        let stats = stats(&first);
        assert_eq!((stats.connects, stats.disconnects, stats.dropped_away), (3, 2, 0), "{stats:?}");
    });
}

#[test]
fn a_server_of_a_cluster_is_killed_and_another_one_takes_over() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-other");
    let mut cluster = nats::cluster_by(2, |args| Nats::with_leafs(&folder, "", "", args));
    smol::block_on(async {
        // The first one names the second.
        let (first, second) =
            (serve(leaf(&[cluster[0].leaf_url()])).await, serve(leaf(&[cluster[1].leaf_url()])).await);
        let (publishes, hears) = (client(&first).await, client(&second).await);
        let mut received = hears.subscribe("a").await.unwrap();
        known(&publishes, &mut received, "a").await;
        cluster[0].kill();
        until("it is noticed", || stats(&first).disconnects > 0).await;
        publishes.publish("a", "meanwhile").await.unwrap();
        assert_eq!(next(&mut received).await, "meanwhile");
        assert_eq!(view(&first).server, Some(cluster[1].leaf_url()));
    });
}

#[test]
fn who_is_not_let_in_is_told_why_and_serves_nevertheless() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-trouble");
    let open = Nats::with_leafs(&folder, "", "", &[]);
    let closed = Nats::with_leafs(&folder, "authorization { user: edge, password: secret }", "", &[]);
    let at_client_port = NatsAddress::leaf(&open.url()).unwrap();
    let at_leaf_port = open.leaf_url().replace("nats-leaf://", "nats://");
    smol::block_on(async {
        for (backbone, why) in [
            (Backbone { leaf: vec![at_client_port], ..Backbone::default() }, "no port for leaf nodes"),
            (
                Backbone { servers: vec![at_leaf_port.parse().unwrap()], ..Backbone::default() },
                "the port for leaf nodes: --nats-leaf takes that",
            ),
            (leaf(&[closed.leaf_url()]), "Authorization Violation"),
            (leaf(&[closed.leaf_url().replace("://", "://edge:wrong@")]), "Authorization Violation"),
            (leaf(&[format!("127.0.0.1:{}", port::free())]), "cannot connect"),
        ] {
            let server = bind(backbone);
            until("why", || view(&server).trouble.is_some()).await;
            let trouble = view(&server).trouble.unwrap();
            assert!(trouble.contains(why), "{trouble}");
            let client = client(&server).await;
            let mut received = client.subscribe("a").await.unwrap();
            client.publish("a", "local").await.unwrap();
            assert_eq!(next(&mut received).await, "local");
        }
        joined(&bind(leaf(&[closed.leaf_url().replace("://", "://edge:secret@")]))).await;
    });
}

#[test]
fn what_a_leaf_node_is_not_permitted_it_neither_asks_for_nor_says_and_the_rest_goes_on() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-permissions");
    let users = r#"authorization { users: [
        { user: edge, password: secret, permissions: {
            publish: { allow: ["up.>", "_INBOX.>"], deny: "up.secret" }, subscribe: { allow: ["down.>", "_INBOX.>"] } } },
        { user: all, password: all } ] }"#;
    let nats = Nats::with_leafs(&folder, "", users, &[]);
    smol::block_on(async {
        let server = serve(leaf(&[nats.leaf_url().replace("://", "://edge:secret@")])).await;
        let client = client(&server).await;
        let mut there = NatsClient::connect(nats.port, r#","user":"all","pass":"all""#);
        let before = stats(&server).wants;
        there.subscribe("up.*", None);
        until("it is wanted", || stats(&server).wants > before).await;
        let mut private = client.subscribe("private").await.unwrap();
        let mut received = client.subscribe("down.*").await.unwrap();
        until("it is told", || view(&server).complaints == 1).await;
        assert_eq!(stats(&server).patterns_refused, 1);
        client.publish("up.secret", "1").await.unwrap();
        client.publish("up.a", "2").await.unwrap();
        client.publish("private", "3").await.unwrap();
        assert_eq!((there.next().text, next(&mut private).await), ("2".into(), "3".into()));
        there.publish("private", None, "4");
        there.publish("down.a", None, "5");
        assert_eq!(next(&mut received).await, "5");
        assert_eq!((stats(&server).dropped_denied, stats(&server).disconnects), (1, 0));
        assert_eq!(drain(&mut private).await.len(), 0);
    });
}

/// A server that lets leaf nodes in and has JetStream.
fn with_jetstream(folder: &Folder) -> Nats {
    let store = folder.0.join("store");
    Nats::with_leafs(folder, "", "", &["-js", "-sd", store.to_str().unwrap()])
}

#[test]
fn what_is_to_be_stored_is_stored_by_a_stream_at_the_hub() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-stored");
    let nats = with_jetstream(&folder);
    jetstream::create(&mut nats.client(), "ORDERS", json!({ "subjects": ["orders.>"] }));
    smol::block_on(async {
        let server = serve(leaf(&[nats.leaf_url()])).await;
        let client = client(&server).await;
        let stored = |sequence, duplicate| Ok(Stored { sequence, duplicate });
        assert_eq!(client.publish("orders.a", "1").stored().await, stored(1, false));
        assert_eq!(client.publish("orders.a", "2").stored().id("two").await, stored(2, false));
        assert_eq!(client.publish("orders.a", "2").stored().id("two").await, stored(2, true));
        let nobody = client.publish("else", "3").stored().await.unwrap_err();
        assert!(nobody.to_string().contains("no stream"), "{nobody}");
        let refused = client.subscribe("orders.>").from_start().await.unwrap_err();
        assert!(refused.to_string().contains("the server's store of messages is not there"), "{refused}");
    });
}

#[test]
fn with_a_connection_to_jetstream_besides_what_is_stored_is_read_and_last_values_are_in_their_bucket() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("leaf-jetstream");
    let mut nats = with_jetstream(&folder);
    jetstream::create(&mut nats.client(), "ORDERS", json!({ "subjects": ["orders.>"] }));
    jetstream::create_bucket(&mut nats.client(), "LAST");
    smol::block_on(async {
        let both = || Backbone {
            servers: vec![nats.url().parse().unwrap()],
            last_values: "LAST".into(),
            ..leaf(&[nats.leaf_url()])
        };
        let (first, second) = (serve(both()).await, serve(both()).await);
        let (client, far) = (client(&first).await, client(&second).await);
        let settled = async |server: &Server| {
            until("the bucket is read", || stats(server).values_read == 1 && stats(server).values_waiting == 0).await;
        };
        settled(&first).await;
        settled(&second).await;
        for text in ["1", "2"] {
            client.publish("orders.a", text).stored().await.unwrap();
        }
        let mut stored = far.subscribe("orders.>").from_start().await.unwrap();
        assert_eq!((next(&mut stored).await, next(&mut stored).await), ("1".into(), "2".into()));
        // A value is a message to who wants it, once, and kept for who comes later.
        let mut lamps = far.subscribe("lamp.*").await.unwrap();
        known(&client, &mut lamps, "lamp.probe").await;
        client.publish("lamp.kitchen", "on").retain().await.unwrap();
        assert_eq!(next(&mut lamps).await, "on");
        settled(&first).await;
        let kept =
            |server: &Server, text: &str| server.kept().unwrap().iter().any(|value| value.payload() == text.as_bytes());
        until("the other server has it", || kept(&second, "on")).await;
        assert_eq!(drain(&mut lamps).await.len(), 0);
        // All of it comes back by itself.
        nats.kill();
        until("it is noticed", || view(&first).store_trouble.is_some() && stats(&first).joined == 0).await;
        client.publish("lamp.kitchen", "off").retain().await.unwrap();
        nats.restart();
        joined(&first).await;
        settled(&first).await;
        assert_eq!(view(&first).store_trouble, None);
        until("the other server has it", || kept(&second, "off")).await;
        client.publish("orders.a", "3").stored().await.unwrap();
        assert_eq!(next(&mut stored).await, "3");
    });
}

#[test]
fn tls_is_used_where_a_hub_asks_for_it() {
    if !nats::is_there() || !NatsTls::IS_THERE {
        return;
    }
    let folder = Folder::new("leaf-tls");
    let Some((certificate, key)) = certificate::make(&folder) else { return };
    let section = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
    let nats = Nats::with_leafs(&folder, &section, "", &[]);
    smol::block_on(async {
        let tls = Some(NatsTls::new(Some(&certificate), None).unwrap());
        let server = serve(Backbone { tls, ..leaf(&[nats.leaf_url()]) }).await;
        let client = client(&server).await;
        let mut received = client.subscribe("a").await.unwrap();
        nats.client().publish("a", None, "sealed");
        assert_eq!(next(&mut received).await, "sealed");
        let without = bind(leaf(&[nats.leaf_url()]));
        until("why", || view(&without).trouble.is_some()).await;
        assert!(view(&without).trouble.unwrap().starts_with("TLS: "));
    });
}
