//! `kcpq bridge` between kcpq servers, ours and one in Go of the original's kind, and real NATS servers.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use futures_lite::future::poll_once;
use kcpq_smol::Client;
use smol::Timer;
use support::edge::next;
use support::folder::Folder;
use support::go;
use support::nats::{self, Nats, NatsClient};
use support::port;
use support::process::Process;
use support::program::kcpq;
use support::tally::Tally;
use support::wait::{LIMIT, soon, until, until_async};

/// A server as a process, on a port of its own that it has again when it is back.
struct Server {
    process: Option<Process>,
    addr: String,
    args: Vec<String>,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut server = Self {
            process: None,
            addr: port::free_addr().to_string(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        server.restart();
        server
    }

    fn restart(&mut self) {
        let mut command = kcpq();
        let mut process = Process::spawn(command.args(["serve", "-l", &self.addr]).args(&self.args));
        self.addr = process.expect_line("listening on ", LIMIT);
        self.process = Some(process);
    }

    /// As SIGKILL does.
    fn kill(&mut self) {
        self.process = None;
    }

    async fn client(&self) -> Client {
        client(&self.addr).await
    }
}

async fn client(addr: &str) -> Client {
    Client::builder().timeout(LIMIT).capacity(100_000).connect(addr).await.unwrap()
}

/// A bridge that carries.
struct Bridge {
    process: Process,
    http: String,
}

impl Bridge {
    fn start(kcpq_addr: &str, nats: &Nats, args: &[&str]) -> Self {
        let mut bridge = Self::begin(kcpq_addr, &nats.url(), args);
        bridge.process.expect_line("bridging ", LIMIT);
        bridge
    }

    fn begin(kcpq_addr: &str, url: &str, args: &[&str]) -> Self {
        let http = port::free().to_string();
        let mut command = kcpq();
        command.args(["bridge", "-s", kcpq_addr, "--nats", url, "--http", &http]).args(args);
        Self { process: Process::spawn(&mut command), http: format!("127.0.0.1:{http}") }
    }

    /// A metric, with its labels; 0 while there is none.
    fn metric(&self, name: &str) -> f64 {
        let ask = || {
            let mut stream = TcpStream::connect(&self.http)?;
            stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.http).as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = ask().unwrap_or_default();
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    fn dropped(&self, to: &str, reason: &str) -> f64 {
        self.metric(&format!("kcpq_bridge_to_{to}_dropped_total{{reason=\"{reason}\"}}"))
    }
}

#[test]
fn messages_cross_both_ways_once_in_order_with_all_that_they_carry() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    let server = Server::start(&[]);
    let args = ["--to-nats", "up.> telemetry.> ask", "--to-kcpq", "down.> site.7.set.* asked"];
    let rules = ["--map", "telemetry.>=site.7.telemetry.>", "--map", "set.*=site.7.set.*"];
    let bridge = Bridge::start(&server.addr, &nats, &[&args[..], &rules].concat());
    smol::block_on(async {
        let client = server.client().await;
        // Of its own it hears nothing.
        let mut there = NatsClient::connect(nats.port, ",\"echo\":false");
        there.subscribe(">", None);
        // Of several patterns and subjects: the order is the publisher's.
        for number in 0..1_000 {
            client.publish(["up.a", "telemetry.b.c", "up.b"][number % 3], format!("p {number}")).await.unwrap();
        }
        for number in 0..1_000 {
            let heard = there.next();
            let subject = ["up.a", "site.7.telemetry.b.c", "up.b"][number % 3];
            assert_eq!((heard.subject, heard.text), (subject.to_owned(), format!("p {number}")));
        }
        let mut received = client.subscribe(">").await.unwrap();
        for number in 0..1_000 {
            there.publish(["down.a", "site.7.set.led"][number % 2], None, &format!("n {number}"));
        }
        there.flush();
        for number in 0..1_000 {
            let message = soon("a message", received.next()).await.unwrap();
            assert_eq!(message.subject(), ["down.a", "set.led"][number % 2]);
            assert_eq!(message.text(), format!("n {number}"));
        }
        // Headers and times to live.
        client.publish("up.h", "21").header("Unit", "K").ttl(Duration::from_secs(60)).await.unwrap();
        next(&mut received).await;
        let heard = there.next();
        assert!(heard.headers.contains("\r\nUnit: K\r\n") && heard.headers.contains("\r\nKcpq-Ttl-Ms: "), "{heard:?}");
        there.publish_with("down.h", "Unit: F\r\nKcpq-Ttl-Ms: 50000\r\n", "70");
        let message = soon("the message", received.next()).await.unwrap();
        assert_eq!((message.headers().get("Unit"), &*message.text()), (Some("F"), "70"));
        assert!(message.left().is_some_and(|left| left <= Duration::from_secs(50)), "{message:?}");
        // Requests: who answers is at the other side.
        there.subscribe("ask", None);
        let asked = smol::spawn({
            let client = client.clone();
            async move { client.request("ask", "who?").await.unwrap().text().into_owned() }
        });
        next(&mut received).await;
        let question = std::iter::repeat_with(|| there.next()).find(|heard| heard.subject == "ask").unwrap();
        there.publish(&question.reply.unwrap(), None, "nats");
        there.flush();
        assert_eq!(asked.await, "nats");
        there.publish("asked", Some("_INBOX.x.1"), "who?");
        let question = soon("the question", async {
            loop {
                let message = received.next().await.unwrap();
                if message.subject() == "asked" {
                    break message;
                }
            }
        })
        .await;
        // With the headers of the question, as some answer.
        question.respond(&client, "kcpq").headers(question.headers().iter()).await.unwrap();
        let answer = std::iter::repeat_with(|| there.next()).find(|heard| heard.subject == "_INBOX.x.1").unwrap();
        assert_eq!(answer.text, "kcpq");
        // What is not named stays where it is.
        client.publish("inside", "").await.unwrap();
        there.publish("inside", None, "there");
        client.publish("up.end", "end").await.unwrap();
        assert_eq!(there.next().text, "end");
        there.publish("down.end", None, "end");
        until_async("the end", async || next(&mut received).await == "end").await;
        assert_eq!(bridge.metric("kcpq_bridge_stripped_total"), 0.0);
    });
}

#[test]
fn nothing_comes_back_even_with_two_bridges_side_by_side() {
    if !nats::is_there() {
        return;
    }
    const COUNT: u32 = 200;
    let nats = Nats::start(&[]);
    let server = Server::start(&[]);
    let both = ["--to-nats", ">", "--to-kcpq", ">"];
    let bridges: Vec<Bridge> = (0..2).map(|_| Bridge::start(&server.addr, &nats, &both)).collect();
    smol::block_on(async {
        let client = server.client().await;
        let mut received = client.subscribe("x.>").await.unwrap();
        let mut there = nats.client();
        there.subscribe("x.>", None);
        for number in 0..COUNT {
            client.publish("x.y", format!("kcpq {number}")).await.unwrap();
            there.publish("x.y", None, &format!("nats {number}"));
        }
        there.flush();
        let (mut here, mut at_nats) = (Tally::default(), Tally::default());
        let twice = 2 * COUNT as usize;
        until_async("all has crossed by both", async || {
            here.drain(&mut received).await;
            at_nats.drain_nats(&mut there);
            here.of("nats").len() >= twice && at_nats.of("kcpq").len() >= twice
        })
        .await;
        // Each bridge has seen what the other one, and itself, has handed over, and let it be.
        let back = |bridge: &Bridge| bridge.dropped("nats", "returned") + bridge.dropped("kcpq", "returned");
        until("what came back is counted", || bridges.iter().all(|bridge| back(bridge) >= f64::from(3 * COUNT))).await;
        client.publish("x.y", "kcpq 999").await.unwrap();
        until_async("the end", async || {
            here.drain(&mut received).await;
            at_nats.drain_nats(&mut there);
            here.of("kcpq").last() == Some(&999) && at_nats.of("kcpq").len() == twice + 2
        })
        .await;
        assert!(here.of("kcpq").iter().copied().eq((0..COUNT).chain([999])), "once where it is from, in order");
        assert!(at_nats.of("nats").iter().copied().eq(0..COUNT));
        assert_eq!((here.of("nats").len(), at_nats.of("kcpq").len()), (twice, twice + 2), "once by each bridge");
        for bridge in &bridges {
            bridge.process.expect_logged("has crossed this link", LIMIT);
        }
    });
}

#[test]
fn beside_a_backbone_of_the_server_nothing_goes_round() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    let server = Server::start(&["--nats", &nats.url()]);
    let bridge = Bridge::start(&server.addr, &nats, &["--to-nats", ">", "--to-kcpq", ">"]);
    smol::block_on(async {
        let client = server.client().await;
        let mut received = client.subscribe("x").await.unwrap();
        let mut there = nats.client();
        there.subscribe("x", None);
        // The backbone is there when something has crossed twice.
        let (mut here, mut at_nats, mut count) = (Tally::default(), Tally::default(), 0);
        until_async("both ways are there", async || {
            client.publish("x", format!("kcpq {count}")).await.unwrap();
            count += 1;
            Timer::after(Duration::from_millis(20)).await;
            at_nats.drain_nats(&mut there);
            at_nats.of("kcpq").len() > count as usize
        })
        .await;
        there.publish("x", None, "nats 1");
        there.flush();
        until_async("all is there", async || {
            here.drain(&mut received).await;
            at_nats.drain_nats(&mut there);
            here.of("nats").len() == 3 && bridge.dropped("kcpq", "returned") > 0.0
        })
        .await;
        // By each of the three ways, as the book says, and no more.
        client.publish("x", "end 1").await.unwrap();
        until_async("the end", async || {
            here.drain(&mut received).await;
            at_nats.drain_nats(&mut there);
            here.of("end").len() == 3 && at_nats.of("end").len() == 3
        })
        .await;
        assert!(here.of("kcpq").len() <= 3 * count as usize && at_nats.of("kcpq").len() <= 3 * count as usize);
        assert_eq!((here.of("nats").len(), at_nats.of("nats").len()), (3, 3));
        bridge.process.expect_logged("has crossed this link", LIMIT);
    });
}

#[test]
fn a_server_of_the_original_needs_no_headers_to_have_nothing_back() {
    let Some(peer) = go::peer() else { return };
    if !nats::is_there() {
        return;
    }
    const COUNT: u32 = 300;
    let nats = Nats::start(&[]);
    let mut original = Process::spawn(Command::new(peer).args(["serve", "-listen", "127.0.0.1:0", "-queue", "100000"]));
    let addr = original.expect_line("listening ", LIMIT);
    // Alone `>` is no wildcard there.
    let bridge = Bridge::start(&addr, &nats, &["--to-nats", "x.> >", "--to-kcpq", ">"]);
    bridge.process.expect_logged("name what it begins with", LIMIT);
    smol::block_on(async {
        let client = client(&addr).await;
        assert!(!client.is_native());
        let mut received = client.subscribe("x.>").await.unwrap();
        let mut there = nats.client();
        there.subscribe("x.>", None);
        for number in 0..COUNT {
            client.publish("x.y", format!("kcpq {number}")).await.unwrap();
            // What is said twice in the same words is said twice.
            client.publish("x.y", format!("kcpq {number}")).await.unwrap();
            there.publish("x.y", None, &format!("nats {number}"));
            there.publish_with("x.y", "Unit: K\r\n", &format!("nats {number}"));
        }
        there.flush();
        let (mut here, mut at_nats) = (Tally::default(), Tally::default());
        let twice = 2 * COUNT as usize;
        until_async("all has crossed", async || {
            here.drain(&mut received).await;
            at_nats.drain_nats(&mut there);
            here.of("nats").len() >= twice && at_nats.of("kcpq").len() >= twice
        })
        .await;
        until("what came back is counted", || bridge.dropped("nats", "returned") >= f64::from(2 * COUNT)).await;
        client.publish("x.y", "kcpq 999").await.unwrap();
        until_async("the end", async || {
            here.drain(&mut received).await;
            at_nats.drain_nats(&mut there);
            at_nats.of("kcpq").last() == Some(&999) && here.of("kcpq").last() == Some(&999)
        })
        .await;
        let each_twice = || (0..COUNT).flat_map(|number| [number; 2]);
        assert!(
            here.of("nats").iter().copied().eq(each_twice()) && at_nats.of("nats").iter().copied().eq(each_twice())
        );
        assert!(at_nats.of("kcpq").iter().copied().eq(each_twice().chain([999])));
        assert!(here.of("kcpq").iter().copied().eq(each_twice().chain([999])));
        assert_eq!(bridge.metric("kcpq_bridge_stripped_total"), f64::from(COUNT));
    });
}

#[test]
fn either_side_is_killed_and_comes_back_and_what_waits_is_bounded() {
    if !nats::is_there() {
        return;
    }
    let mut nats = Nats::start(&[]);
    let mut server = Server::start(&[]);
    let args = ["--to-nats", "up.>", "--to-kcpq", "down.>", "--nats-buffer", "20k", "--kcpq-buffer", "20k"];
    let bridge = Bridge::start(&server.addr, &nats, &args);
    smol::block_on(async {
        let client = server.client().await;
        let mut there = nats.client();
        there.subscribe("up.>", None);
        let filler = "x".repeat(90);
        let mut count = 0_u32;
        client.publish("up.a", "p 0").await.unwrap();
        assert_eq!(there.next().text, "p 0");

        // NATS.
        nats.kill();
        until("it is noticed", || bridge.metric("kcpq_backbone_connected") == 0.0).await;
        for _ in 0..2_000 {
            count += 1;
            client.publish("up.a", format!("p {count}")).header("Filler", &filler).await.unwrap();
        }
        client.flush().await.unwrap();
        until("the oldest make room", || bridge.metric("kcpq_backbone_messages_dropped_total{reason=\"away\"}") > 0.0)
            .await;
        assert!(bridge.metric("kcpq_backbone_waiting_size_bytes") <= 20.0 * 1024.0);
        nats.restart();
        let mut there = nats.client();
        there.subscribe("up.>", None);
        let mut tally = Tally::default();
        until_async("the newest come", async || {
            tally.drain_nats(&mut there);
            tally.of("p").last() == Some(&count)
        })
        .await;
        let numbers = tally.of("p");
        let away = bridge.metric("kcpq_backbone_messages_dropped_total{reason=\"away\"}");
        let lost = (away + bridge.dropped("nats", "full")) as usize;
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
        assert_eq!(numbers.len() + lost, count as usize, "what did not come is counted");

        // The kcpq server.
        until("the way back is there", || bridge.metric("kcpq_backbone_connected") == 1.0).await;
        server.kill();
        until("it is noticed", || bridge.metric("kcpq_bridge_kcpq_connected") == 0.0).await;
        for number in 0..2_000 {
            there.publish_with("down.a", &format!("Filler: {filler}\r\n"), &format!("n {number}"));
        }
        there.flush();
        until("the oldest make room", || bridge.dropped("kcpq", "full") > 0.0).await;
        until("all is heard", || bridge.metric("kcpq_bridge_messages_received_total{to=\"kcpq\"}") == 2_000.0).await;
        assert!(bridge.metric("kcpq_bridge_to_kcpq_waiting_size_bytes") <= 20.0 * 1024.0);
        let mut received = client.subscribe("down.>").into_future();
        assert!(poll_once(&mut received).await.is_none());
        server.restart();
        let mut received = soon("the subscription", received).await.unwrap();
        let mut number = 10_000;
        let mut tally = Tally::default();
        until_async("messages come again", async || {
            there.publish("down.a", None, &format!("n {number}"));
            number += 1;
            there.flush();
            tally.drain(&mut received).await;
            tally.of("n").last().is_some_and(|last| *last >= 10_000)
        })
        .await;
        assert!(tally.of("n").is_sorted_by(|a, b| a < b), "in order, none twice: {tally:?}");
        // And the other way as well.
        client.publish("up.a", "p 99999").await.unwrap();
        assert_eq!(there.next().text, "p 99999");
    });
}

#[cfg(unix)]
#[test]
fn a_nats_server_that_hangs_takes_no_memory() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    let server = Server::start(&[]);
    let bridge = Bridge::start(&server.addr, &nats, &["--to-nats", "up.>", "--nats-buffer", "1M"]);
    smol::block_on(async {
        let client = server.client().await;
        nats.signal("-STOP");
        let large = vec![b'x'; 100_000];
        // More than the system takes for it.
        until_async("the oldest make room", async || {
            for _ in 0..20 {
                client.publish("up.a", &large).await.unwrap();
            }
            bridge.dropped("nats", "full") + bridge.metric("kcpq_backbone_messages_dropped_total{reason=\"away\"}")
                > 10.0
        })
        .await;
        assert!(bridge.metric("kcpq_backbone_waiting_size_bytes") < f64::from(3 << 20));
        nats.signal("-CONT");
        until("it is there again", || bridge.metric("kcpq_backbone_connected") == 1.0).await;
        let mut there = nats.client();
        there.subscribe("up.end", None);
        until_async("messages cross again", async || {
            client.publish("up.end", "end").await.unwrap();
            there.try_next(Duration::from_millis(20)).is_some()
        })
        .await;
    });
}

#[cfg(unix)]
#[test]
fn a_bridge_that_is_told_to_stop_hands_over_what_it_was_given() {
    if !nats::is_there() {
        return;
    }
    const COUNT: u32 = 2_000;
    let nats = Nats::start(&[]);
    let server = Server::start(&[]);
    let bridge = Bridge::start(&server.addr, &nats, &["--to-nats", "up.>", "--to-kcpq", "down.>"]);
    smol::block_on(async {
        let client = server.client().await;
        let mut received = client.subscribe("down.>").await.unwrap();
        let mut there = nats.client();
        there.subscribe("up.>", None);
        for number in 0..COUNT {
            client.publish("up.a", format!("p {number}")).await.unwrap();
            there.publish("down.a", None, &format!("n {number}"));
        }
        there.flush();
        client.flush().await.unwrap();
        bridge.process.terminate();
        let output = bridge.process.wait(LIMIT);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        let (mut here, mut at_nats) = (Tally::default(), Tally::default());
        // It has handed over all that it had, so all is there or on its way.
        let passed = |way: &str| {
            let line = log.lines().rfind(|line| line.contains("carried")).unwrap();
            let rest = &line[line.find(way).unwrap() + way.len()..];
            let words: Vec<&str> = rest.split([' ', ',']).collect();
            assert_eq!(words[..2], [words[3], "messages"], "nothing is dropped: {line}");
            words[3].parse::<usize>().unwrap()
        };
        let (up, down) = (passed("to_nats="), passed("to_kcpq="));
        until_async("all is there", async || {
            here.drain(&mut received).await;
            at_nats.drain_nats(&mut there);
            at_nats.of("p").len() == up && here.of("n").len() == down
        })
        .await;
        for (way, count) in [(at_nats.of("p"), up), (here.of("n"), down)] {
            assert!(way.iter().copied().eq(0..u32::try_from(count).unwrap()), "the first ones, in order");
        }
        assert!(down == COUNT as usize, "what NATS had sent before is not left behind: {down}");
    });
}

#[test]
#[cfg(unix)]
fn a_file_says_what_flags_say_and_is_read_again() {
    if !nats::is_there() {
        return;
    }
    let (nats, server, folder) = (Nats::start(&[]), Server::start(&[]), Folder::new("bridge-file"));
    let text = format!(
        "to_nats = 'up.>'\nto_kcpq = ['down.>']\nmap = ['up.>=site.>']\nlog_level = 'warn'\n\
         [kcpq]\nservers = '{}'\n[nats]\nservers = '{}'\n",
        server.addr,
        nats.url()
    );
    let file = folder.write("bridge.toml", &text);
    let said = kcpq().args(["bridge", "--check", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains(&format!("kcpq.servers = {}", server.addr)) && said.contains("bridge.toml:3"), "{said}");
    let mut bridge = Process::spawn(kcpq().args(["bridge", "-c"]).arg(&file));
    bridge.expect_line("bridging ", LIMIT);
    smol::block_on(async {
        let client = server.client().await;
        let mut there = NatsClient::connect(nats.port, "");
        there.subscribe("site.>", None);
        client.publish("up.a", "1").await.unwrap();
        let heard = there.next();
        assert_eq!((&*heard.subject, &*heard.text), ("site.a", "1"));
    });
    let louder = text.replace("'warn'", "'info'");
    for (text, logged) in [
        (&text.replace("'warn'", "'wrn'"), "everything stays as it was"),
        (&louder, "configuration read again"),
        (&louder.replace("'down.>'", "'other.>'"), "changed, but holds only from the next start on"),
    ] {
        folder.write("bridge.toml", text);
        bridge.signal("-HUP");
        bridge.expect_logged(logged, LIMIT);
    }
    // Of the level that holds now.
    bridge.terminate();
    bridge.expect_logged("stopping", LIMIT);
    assert!(bridge.wait(LIMIT).status.success());
}

#[test]
fn what_cannot_be_is_said() {
    let said = |args: &[&str]| {
        let output = kcpq().arg("bridge").args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (args, code, part) in [
        (&["--nats", "nats://x"][..], 2, "--to-nats"),
        (&["--to-nats", ">"], 2, "--nats <URL>"),
        (&["-c", "../examples/bridge.toml", "--nats-cert", "x", "--nats-cert-key", "x"], 1, "TLS towards NATS: x: "),
        (&["-c", "no/such/file"], 1, "cannot read no/such/file: "),
        (&["--nats", "nats://x", "--to-nats", "a..b"], 2, "invalid value 'a..b'"),
        (&["--nats", "nats://x", "--to-nats", ">", "--map", "a.*=b"], 2, "the same wildcards"),
        (&["--nats", "nats://x", "--to-nats", ">", "--link", "a b"], 2, "visible ASCII"),
        (&["--nats", "http://u:secret@x", "--to-nats", ">"], 1, "no address of a NATS server"),
        (&["--nats", "nats://x", "--to-nats", ">", "--http", "0.0.0.0:0"], 1, "--http-open"),
    ] {
        let (found, text) = said(args);
        assert!(found == Some(code) && text.contains(part) && !text.contains("secret"), "{args:?}: {found:?} {text}");
    }
}
