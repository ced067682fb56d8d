//! Several servers as one over real NATS servers, with clients at all of them, and one that speaks NATS by hand.

mod support;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use kcpq_smol::{RequestError, RequestFailure, Subscription};
use kcpq_std_server::{Backbone, NatsCredentials, NatsTls};
use smol::Timer;
use support::certificate;
use support::edge::{bind, client, drain, everybody_gets_everything, joined, next, on, serve, stats, view};
use support::folder::Folder;
use support::nats::{self, Nats, NatsClient};
use support::port;
use support::process::Process;
use support::program::kcpq;
use support::tally::Tally;
use support::wait::{LIMIT, soon, until, until_async};

#[test]
fn on_one_nats_server_everybody_gets_everything_once_and_in_order() {
    if nats::is_there() {
        let nats = Nats::start(&[]);
        everybody_gets_everything(vec![on(&[nats.url()]), on(&[nats.url()])], nats.client());
    }
}

#[test]
fn on_a_cluster_everybody_gets_everything_once_and_in_order() {
    if nats::is_there() {
        let cluster = nats::cluster(3);
        let backbones = cluster.iter().map(|nats| on(&[nats.url()])).collect();
        everybody_gets_everything(backbones, cluster[0].client());
    }
}

#[test]
fn requests_go_both_ways_and_who_asks_hears_that_nobody_is_there() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    smol::block_on(async {
        let (first, second) = (serve(on(&[nats.url()])).await, serve(on(&[nats.url()])).await);
        let (asks, answers) = (client(&first).await, client(&second).await);
        let nobody = asks.request("ask", "?").await.unwrap_err();
        assert!(matches!(nobody, RequestError::Failed(RequestFailure::NoResponders)), "{nobody}");
        let mut there = nats.client();
        there.subscribe("_INBOX.there.*", None);
        there.publish("ask", Some("_INBOX.there.1"), "?");
        assert!(there.next().headers.starts_with("NATS/1.0 503"));

        // A kcpq client of another server answers: both.
        let mut asked = answers.subscribe("ask").await.unwrap();
        let answer = smol::spawn(async move {
            for _ in 0..2 {
                let message = soon("the question", asked.next()).await.unwrap();
                assert_eq!(message.headers().iter().count(), 0);
                answers.publish(message.reply_to().unwrap(), format!("to {}", message.text())).await.unwrap();
            }
        });
        assert_eq!(asks.request("ask", "kcpq").await.unwrap().text(), "to kcpq");
        there.publish("ask", Some("_INBOX.there.2"), "nats");
        let answered = there.next();
        assert_eq!((&*answered.subject, &*answered.text), ("_INBOX.there.2", "to nats"));
        answer.await;

        // A NATS client answers, several times.
        there.subscribe("ask.there", None);
        let mut replies = asks.request("ask.there", "?").replies().await.unwrap();
        let question = there.next();
        let reply = question.reply.unwrap();
        assert!(reply.starts_with("_INBOX.kcpq"), "{reply}");
        for text in ["one", "two"] {
            there.publish(&reply, None, text);
        }
        there.flush();
        for text in ["one", "two"] {
            assert_eq!(soon("an answer", replies.next()).await.unwrap().text(), text);
        }
        // One who is at the same server answers: NATS has nobody, which does not matter.
        let near = client(&first).await;
        let mut asked = near.subscribe("near").await.unwrap();
        let answer = async {
            let message = soon("the question", asked.next()).await.unwrap();
            near.publish(message.reply_to().unwrap(), "near").await.unwrap();
        };
        let (_, answered) = futures_lite::future::zip(answer, async { asks.request("near", "").await.unwrap() }).await;
        assert_eq!(answered.text(), "near");
        assert_eq!(stats(&first).nobody, 1);
    });
}

#[test]
fn one_member_of_a_queue_group_gets_each_message_wherever_the_members_are() {
    if !nats::is_there() {
        return;
    }
    const COUNT: usize = 600;
    let nats = Nats::start(&[]);
    smol::block_on(async {
        let (first, second) = (serve(on(&[nats.url()])).await, serve(on(&[nats.url()])).await);
        let mut members = Vec::new();
        for server in [&first, &first, &second, &second] {
            let client = client(server).await;
            members.push((client.subscribe("jobs.>").queue("workers").await.unwrap(), client));
        }
        let mut there = nats.client();
        there.subscribe("jobs.*", Some("workers"));
        let (a, b) = (client(&first).await, client(&second).await);
        let mut all = b.subscribe("jobs.>").await.unwrap();
        for number in 0..COUNT {
            match number % 3 {
                0 => a.publish("jobs.x", number.to_string()).await.unwrap(),
                1 => b.publish("jobs.x", number.to_string()).await.unwrap(),
                _ => there.publish("jobs.x", None, &number.to_string()),
            }
        }
        there.flush();
        for _ in 0..COUNT {
            next(&mut all).await;
        }
        let (mut got, mut got_there) = (Vec::new(), 0);
        until_async("each message at a member", async || {
            for (member, _) in &mut members {
                got.extend(drain(member).await.into_iter().map(|message| message.text().parse::<usize>().unwrap()));
            }
            while let Some(message) = there.try_next(Duration::from_millis(1)) {
                got.push(message.text.parse().unwrap());
                got_there += 1;
            }
            got.len() >= COUNT
        })
        .await;
        got.sort_unstable();
        assert!(got.into_iter().eq(0..COUNT), "each once");
        assert!(got_there > 0, "the member at NATS has its share");
    });
}

#[test]
fn headers_ttl_and_what_else_a_message_carries_cross_both_ways() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    smol::block_on(async {
        let server = serve(on(&[nats.url()])).await;
        let client = client(&server).await;
        let mut there = nats.client();
        there.subscribe("out", None);
        client
            .publish("out", "21.5")
            .header("Unit", "K")
            .header("Unit", "°C")
            .ttl(Duration::from_secs(60))
            .await
            .unwrap();
        let heard = there.next();
        assert!(heard.headers.starts_with("NATS/1.0\r\nUnit: K\r\nUnit: °C\r\nKcpq-Ttl-Ms: "), "{heard:?}");
        assert_eq!(heard.text, "21.5");
        let mut received = client.subscribe("in").await.unwrap();
        there.publish_with("in", "Unit:  F \r\nKcpq-Ttl-Ms: 30000\r\nKcpq-Lane: 1\r\n", "70");
        let message = soon("the message", received.next()).await.unwrap();
        assert_eq!(message.text(), "70");
        assert!(message.headers().iter().eq([("Unit", "F")]), "{message:?}");
    });
}

#[test]
fn only_what_is_named_crosses_under_its_prefix() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    smol::block_on(async {
        let server = bind(Backbone {
            export: ["up.>".into(), "both".into()].into(),
            import: ["down.>".into(), "both".into()].into(),
            prefix: "site.7".into(),
            ..on(&[nats.url()])
        });
        joined(&server).await;
        let client = client(&server).await;
        let mut received = client.subscribe(">").await.unwrap();
        let mut there = nats.client();
        there.subscribe(">", None);
        for subject in ["down.a", "inside", "up.a", "both"] {
            client.publish(subject, subject).await.unwrap();
        }
        client.flush().await.unwrap();
        for subject in ["down.a", "inside", "up.a", "both"] {
            assert_eq!(next(&mut received).await, subject);
        }
        assert_eq!([there.next().subject, there.next().subject], ["site.7.up.a", "site.7.both"]);
        for subject in ["site.7.up.b", "inside", "down.b", "site.7.$KCPQ.x", "site.7.down.b"] {
            there.publish(subject, None, subject);
        }
        assert_eq!(next(&mut received).await, "site.7.down.b");
    });
}

#[test]
fn without_nats_local_messages_go_on_and_when_it_comes_what_waits_is_handed_over() {
    if !nats::is_there() {
        return;
    }
    let port = port::free();
    let url = format!("nats://127.0.0.1:{port}");
    smol::block_on(async {
        let server = bind(on(&[url]));
        let client = client(&server).await;
        // Subscriptions, requests and queue groups need not wait.
        let mut received = client.subscribe("a.*").await.unwrap();
        let mut member = client.subscribe("a.*").queue("g").await.unwrap();
        let nobody = client.request("b", "").await.unwrap_err();
        assert!(matches!(nobody, RequestError::Failed(RequestFailure::NoResponders)), "{nobody}");
        client.publish("a.b", "here").await.unwrap();
        assert_eq!((next(&mut received).await, next(&mut member).await), ("here".into(), "here".into()));
        client.publish("later", "waits").await.unwrap();
        until("it waits", || stats(&server).waiting == 1).await;
        until("why", || view(&server).trouble.is_some()).await;
        assert!(view(&server).trouble.unwrap().starts_with("cannot connect: "));
        let nats = Nats::start_at(port, &[]);
        joined(&server).await;
        until("it goes", || stats(&server).messages_out == 1).await;
        let mut there = nats.client();
        there.publish("a.c", None, "there");
        assert_eq!((next(&mut received).await, next(&mut member).await), ("there".into(), "there".into()));
        let stats = stats(&server);
        assert_eq!((stats.waiting, stats.dropped_settled, stats.connects), (0, 2, 1), "{stats:?}");
        assert_eq!(view(&server).trouble, None);
    });
}

#[test]
fn nats_is_killed_and_comes_back_under_load_and_all_sums_agree() {
    if !nats::is_there() {
        return;
    }
    let mut nats = Nats::start(&[]);
    smol::block_on(async {
        let small = || Backbone { buffer: 20_000, ..on(&[nats.url()]) };
        let (first, second) = (bind(small()), bind(small()));
        joined(&first).await;
        joined(&second).await;
        let (publishes, local, far) = (client(&first).await, client(&first).await, client(&second).await);
        let mut near = local.subscribe("load.>").await.unwrap();
        let mut away = far.subscribe("load.>").await.unwrap();
        let (mut count, mut got_near, mut got_away) = (0_u32, Tally::default(), Tally::default());
        let mut step = async |near: &mut Subscription, away: &mut Subscription| {
            for _ in 0..50 {
                publishes.publish(&format!("load.{}", count % 3), format!("p {count:0100}")).await.unwrap();
                count += 1;
            }
            drain(near).await.iter().for_each(|message| got_near.take(&message.text()));
            drain(away).await.iter().for_each(|message| got_away.take(&message.text()));
            Timer::after(Duration::from_millis(1)).await;
            got_away.total()
        };
        for round in 0..3 {
            let before = step(&mut near, &mut away).await;
            until_async("messages cross", async || step(&mut near, &mut away).await > before + 100).await;
            nats.kill();
            let lost = stats(&first).disconnects;
            until_async("it is noticed", async || {
                step(&mut near, &mut away).await;
                stats(&first).disconnects > lost || stats(&first).disconnects > round
            })
            .await;
            until_async("more waits than may", async || {
                step(&mut near, &mut away).await;
                stats(&first).dropped_away > 0 && stats(&first).waiting_bytes > 10_000
            })
            .await;
            assert!(stats(&first).waiting_bytes <= 20_000);
            nats.restart();
            joined(&first).await;
            joined(&second).await;
        }
        publishes.flush().await.unwrap();
        until("all is handed over", || {
            let stats = stats(&first);
            let all = stats.messages_out + stats.dropped_away + stats.expired + stats.dropped_settled;
            all == u64::from(count) && stats.waiting == 0
        })
        .await;
        // Local subscribers have missed nothing.
        until_async("the rest", async || {
            drain(&mut near).await.iter().for_each(|message| got_near.take(&message.text()));
            got_near.total() == count as usize
        })
        .await;
        assert!(got_near.is_all(1, count));
        // The others have what crossed, in order and once; what was handed over while the other server was not back has
        // nobody at NATS.
        publishes.publish("load.end", format!("p {count}")).await.unwrap();
        until_async("the end", async || {
            drain(&mut away).await.iter().for_each(|message| got_away.take(&message.text()));
            got_away.of("p").last() == Some(&count)
        })
        .await;
        let numbers = got_away.of("p");
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
        let (out, into) = (stats(&first), stats(&second));
        assert_eq!(into.messages_in, numbers.len() as u64);
        assert!(numbers.len() as u64 <= out.messages_out, "{out:?}");
        assert!(out.dropped_away > 0 && out.disconnects >= 3, "{out:?}");
    });
}

#[cfg(unix)]
#[test]
fn a_nats_server_that_hangs_keeps_nobody_here_waiting() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    smol::block_on(async {
        let server = serve(on(&[nats.url()])).await;
        let (publishes, listens) = (client(&server).await, client(&server).await);
        let mut received = listens.subscribe("x").await.unwrap();
        nats.signal("-STOP");
        // More than the system takes for it. What waits for NATS beyond what a queue holds is dropped, and counted.
        let large = vec![b'x'; 100_000];
        for _ in 0..200 {
            publishes.publish("x", &large).await.unwrap();
            assert_eq!(next(&mut received).await.len(), large.len());
        }
        let mut late = listens.subscribe("late").await.unwrap();
        publishes.publish("late", "1").await.unwrap();
        assert_eq!(next(&mut late).await, "1");
        until("it is given up", || view(&server).stats.joined == 0).await;
        until("why", || view(&server).trouble.is_some_and(|why| why.ends_with("says nothing"))).await;
        nats.signal("-CONT");
        joined(&server).await;
        let mut there = nats.client();
        there.publish("late", None, "2");
        assert_eq!(next(&mut late).await, "2");
    });
}

#[test]
fn in_a_cluster_the_next_server_is_used_when_one_is_lost() {
    if !nats::is_there() {
        return;
    }
    let mut cluster = nats::cluster(2);
    let all: Vec<String> = cluster.iter().map(Nats::url).collect();
    smol::block_on(async {
        // One of them is not named: the other one knows it.
        let (first, second) = (serve(on(&all[..1])).await, serve(on(&all[1..])).await);
        let (a, b) = (client(&first).await, client(&second).await);
        let mut received = b.subscribe("x").await.unwrap();
        cluster[0].kill();
        until("the other one is used", || view(&first).server.as_ref() == Some(&all[1])).await;
        joined(&first).await;
        a.publish("x", "after").await.unwrap();
        assert_eq!(next(&mut received).await, "after");
    });
}

#[test]
fn publishers_hear_of_messages_too_large_for_nats_and_how_many_sessions_here_have_the_others() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("nats-small");
    let config = folder.write("nats.conf", "max_payload: 1000\n");
    let nats = Nats::start(&["-c", config.to_str().unwrap()]);
    smol::block_on(async {
        let (first, second) = (serve(on(&[nats.url()])).await, serve(on(&[nats.url()])).await);
        let (a, b) = (client(&first).await, client(&second).await);
        let mut near = a.subscribe("x").await.unwrap();
        let mut far = b.subscribe("x").await.unwrap();
        assert_eq!(a.publish("x", "small").confirmed().await.unwrap(), 1, "those of this server count");
        let refused = a.publish("x", vec![b'x'; 1_001]).confirmed().await.unwrap_err();
        assert!(refused.to_string().contains("backbone"), "{refused}");
        assert_eq!((next(&mut near).await.len(), next(&mut near).await.len()), (5, 1_001));
        a.publish("x", "last").await.unwrap();
        assert_eq!((next(&mut far).await, next(&mut far).await), ("small".into(), "last".into()));
        assert_eq!(stats(&first).dropped_too_large, 1);
    });
    std::fs::remove_file(config).unwrap();
}

// --- who may ---

#[test]
fn passwords_tokens_and_keys_are_shown_to_nats() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("nats-users");
    // As NATS's documentation shows a key.
    let seed = folder.write("seed", "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n");
    let config = folder.write(
        "nats.conf",
        "authorization { users = [\n\
         { user: edge, password: \"p@ss\" },\n\
         { nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4 }\n\
         { user: narrow, password: x, permissions = { publish = [\"out\", \"_INBOX.>\"], subscribe = [\"in\", \"_INBOX.>\"] } }\n\
         ] }\n",
    );
    let nats = Nats::start(&["-c", config.to_str().unwrap()]);
    smol::block_on(async {
        let with = |user: &str| on(&[format!("nats://{user}127.0.0.1:{}", nats.port)]);
        let keyed = bind(Backbone { credentials: NatsCredentials::read_key(&seed).unwrap(), ..with("") });
        let named = bind(with("edge:p%40ss@"));
        joined(&keyed).await;
        joined(&named).await;
        let (a, b) = (client(&keyed).await, client(&named).await);
        let mut received = b.subscribe("x").await.unwrap();
        a.publish("x", "1").await.unwrap();
        assert_eq!(next(&mut received).await, "1");
        // Who may not: the server goes on, and says why.
        let refused = bind(with("edge:wrong@"));
        until("the reason", || view(&refused).trouble.is_some()).await;
        assert_eq!(view(&refused).trouble.unwrap(), "the NATS server says: Authorization Violation");
        let local = client(&refused).await;
        let mut received = local.subscribe("x").await.unwrap();
        local.publish("x", "2").await.unwrap();
        assert_eq!(next(&mut received).await, "2");
        // What a user may not is counted, and the rest goes on.
        let narrow = bind(with("narrow:x@"));
        joined(&narrow).await;
        let c = client(&narrow).await;
        let _not_permitted = c.subscribe("x").await.unwrap();
        let mut received = c.subscribe("in").await.unwrap();
        until("NATS complains", || view(&narrow).complaints > 0).await;
        a.publish("in", "3").await.unwrap();
        assert_eq!(next(&mut received).await, "3");
        assert_eq!(stats(&narrow).disconnects, 0);
    });
    std::fs::remove_file(config).unwrap();
    std::fs::remove_file(seed).unwrap();
}

#[test]
fn tls_is_used_where_nats_asks_for_it_and_only_with_those_who_are_trusted() {
    if !nats::is_there() || !NatsTls::IS_THERE {
        return;
    }
    let folder = Folder::new("nats-tls");
    let Some((cert, key)) = certificate::make(&folder) else { return };
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let nats = Nats::start(&["--tls", "--tlscert", &path(&cert), "--tlskey", &path(&key)]);
    let plain = Nats::start(&[]);
    let trusting = Some(NatsTls::new(Some(&cert), None).unwrap());
    let strange = folder.0.join("other.pem");
    std::fs::copy("/etc/ssl/certs/ca-certificates.crt", &strange).unwrap_or_default();
    smol::block_on(async {
        let (first, second) = (
            bind(Backbone { tls: trusting.clone(), ..on(&[nats.url()]) }),
            bind(Backbone { tls: trusting.clone(), ..on(&[nats.url().replace("nats:", "tls:")]) }),
        );
        joined(&first).await;
        joined(&second).await;
        let (a, b) = (client(&first).await, client(&second).await);
        let mut received = b.subscribe("x").await.unwrap();
        let large = "x".repeat(500_000);
        for _ in 0..10 {
            a.publish("x", &large).await.unwrap();
            assert_eq!(next(&mut received).await, large);
        }
        let trouble = async |backbone: Backbone| {
            let server = bind(backbone);
            until("trouble", || view(&server).trouble.is_some()).await;
            view(&server).trouble.unwrap()
        };
        let why = trouble(Backbone { tls: None, ..on(&[nats.url()]) }).await;
        assert_eq!(why, "TLS: the server asks for it, and there is none here");
        let why = trouble(Backbone { tls: trusting, require_tls: true, ..on(&[plain.url()]) }).await;
        assert_eq!(why, "TLS: the server has none");
        if let Ok(tls) = NatsTls::new(None, None) {
            let why = trouble(Backbone { tls: Some(tls), ..on(&[nats.url()]) }).await;
            assert!(why.starts_with("TLS: ") && why.contains("certificate"), "{why}");
        }
    });
}

#[test]
fn what_is_no_nats_server_is_told_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    // As long as the test.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    smol::block_on(async {
        let server = bind(on(&[url]));
        until("trouble", || view(&server).trouble.is_some()).await;
        assert_eq!(view(&server).trouble.unwrap(), "what answers there does not speak NATS");
        let client = client(&server).await;
        let mut received = client.subscribe("x").await.unwrap();
        client.publish("x", "1").await.unwrap();
        assert_eq!(next(&mut received).await, "1");
    });
}

#[test]
fn a_server_that_stops_hands_over_what_it_was_given() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    let mut there = nats.client();
    there.subscribe("last.>", None);
    smol::block_on(async {
        let server = serve(on(&[nats.url()])).await;
        let client = client(&server).await;
        for number in 0..200 {
            client.publish("last.words", number.to_string()).await.unwrap();
        }
        client.flush().await.unwrap();
        client.close().await.unwrap();
        server.shutdown();
    });
    for number in 0..200 {
        assert_eq!(there.next().text, number.to_string());
    }
}

// --- the program ---

#[test]
fn the_program_says_how_it_is_with_its_backbone() {
    if !nats::is_there() {
        return;
    }
    let mut nats = Nats::start(&["--user", "edge", "--pass", "secret"]);
    let serve = |url: &str| {
        let mut command = kcpq();
        command.args(["serve", "-l", "127.0.0.1:0", "--http", "0", "--log-format", "text", "--nats", url]);
        let mut server = Process::spawn(&mut command);
        let addr = server.expect_line("listening on ", LIMIT);
        let http = server.expect_line("monitoring on http://", LIMIT);
        (server, addr, http)
    };
    let check = |addr: &str, http: &str| {
        let output = kcpq().args(["check", "-s", addr, "--http", http]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let url = format!("nats://edge:secret@127.0.0.1:{}", nats.port);
    let (server, addr, http) = serve(&url);
    server.expect_logged("the backbone is there", LIMIT);
    let (code, said) = check(&addr, &http);
    assert!(
        code == Some(0) && said.contains(&format!("{} is there", nats.url())) && !said.contains("secret"),
        "{said}"
    );
    let mut there = NatsClient::connect(nats.port, ",\"user\":\"edge\",\"pass\":\"secret\"");
    there.subscribe("greet.*", None);
    assert!(kcpq().args(["pub", "-s", &addr, "greet.nats", "hello"]).status().unwrap().success());
    assert_eq!(there.next().text, "hello");
    nats.kill();
    server.expect_logged("the backbone is lost", LIMIT);
    // What is asked over HTTP is a second old at most.
    smol::block_on(until("the check says so", || check(&addr, &http).0 == Some(1)));
    assert!(check(&addr, &http).1.contains("not there"));
    nats.restart();
    let (other, _, _) = serve(&url.replace("secret", "wrong"));
    other.expect_logged("Authorization Violation", LIMIT);
    smol::block_on(until("it is there again", || check(&addr, &http).0 == Some(0)));
    other.terminate();
    let output = other.wait(LIMIT);
    assert!(output.status.success(), "it has served all the same");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("wrong"), "passwords are not in the log");
    let refused = kcpq().args(["serve", "-l", "127.0.0.1:0", "--nats", "http://u:secret@x"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(1) && said.contains("no address of a NATS server") && !said.contains("secret"),
        "{said}"
    );
    let shown = kcpq().args(["serve", "--check", "--nats", &url]).output().unwrap();
    let said = String::from_utf8_lossy(&shown.stdout);
    assert!(said.contains("nats.servers = nats://***@127.0.0.1:") && !said.contains("secret"), "{said}");
}
