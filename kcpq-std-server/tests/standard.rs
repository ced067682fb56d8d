//! Programs on the other side that stand on NATS with its own library, as services do (`tests/nats-peer`, nats.go): messages, headers,
//! requests and queue groups both ways, and last values by its API for key/value buckets.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_lite::future::poll_once;
use kcpq_std_server::Backbone;
use smol::Timer;
use support::edge::{client, next, on, serve};
use support::folder::Folder;
use support::go;
use support::nats::{self, Nats};
use support::process::Process;
use support::wait::{LIMIT, soon, until};

/// The program, and the NATS server that it is a client of.
struct Peer<'p> {
    program: &'p Path,
    url: String,
}

impl Peer<'_> {
    fn start(&self, args: &[&str]) -> Process {
        Process::spawn(Command::new(self.program).arg(&self.url).args(args))
    }

    /// What it prints until it is done.
    fn run(&self, args: &[&str]) -> String {
        let output = self.start(args).wait(LIMIT);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

#[test]
fn services_on_nats_hear_ask_answer_and_share_with_clients_here() {
    let Some(program) = go::nats_peer().filter(|_| nats::is_there()) else { return };
    let nats = Nats::start(&[]);
    let peer = Peer { program: &program, url: nats.url() };
    smol::block_on(async {
        let server = serve(on(&[nats.url()])).await;
        let client = client(&server).await;
        // To there, and from there.
        let mut there = peer.start(&["sub", "news.>"]);
        there.expect_line("subscribed", LIMIT);
        client.publish("news.a", "1").header("Unit", "K").await.unwrap();
        assert_eq!(there.expect_line("news.a ", LIMIT), "1 Unit=K");
        let mut here = client.subscribe("orders.*").await.unwrap();
        peer.run(&["pub", "orders.new", "3 apples", "Unit", "kg"]);
        let message = soon("a message", here.next()).await.unwrap();
        assert_eq!((&*message.text(), message.headers().get("Unit")), ("3 apples", Some("kg")));
        // Who asks is answered, on either side.
        let mut answers = peer.start(&["serve", "there"]);
        answers.expect_line("subscribed", LIMIT);
        assert_eq!(client.request("there", "hello").await.unwrap().text(), "hello!");
        let mut asked = client.subscribe("here").await.unwrap();
        let request = smol::unblock({
            let (program, url) = (program.clone(), nats.url());
            move || Peer { program: &program, url }.run(&["request", "here", "who?"])
        });
        let question = soon("the request", asked.next()).await.unwrap();
        question.respond(&client, "me").await.unwrap();
        assert_eq!(request.await, "me");
        // One member of a group gets each message, here or there.
        let mut worker = peer.start(&["sub", "jobs", "workers"]);
        worker.expect_line("subscribed", LIMIT);
        let mut own = client.subscribe("jobs").queue("workers").await.unwrap();
        for number in 0..40 {
            client.publish("jobs", number.to_string()).await.unwrap();
        }
        let mut got = 0;
        soon("each is with somebody", async {
            while got + worker.printed("jobs ") < 40 {
                got += usize::from(poll_once(own.next()).await.flatten().is_some());
                Timer::after(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert!((1..40).contains(&got) && got + worker.printed("jobs ") == 40, "{got} of 40 are here");
    });
}

#[test]
fn last_values_are_read_and_changed_by_the_api_for_buckets() {
    let Some(program) = go::nats_peer().filter(|_| nats::is_there()) else { return };
    let folder = Folder::new("standard");
    let nats = Nats::start(&["-js", "-sd", folder.0.to_str().unwrap()]);
    let peer = Peer { program: &program, url: nats.url() };
    smol::block_on(async {
        peer.run(&["kv-make", "LAST"]);
        peer.run(&["kv-put", "LAST", "mode", "auto"]);
        let server = serve(Backbone { last_values: "LAST".into(), ..on(&[nats.url()]) }).await;
        let kept = |subject: &str| {
            let all = server.kept().unwrap();
            let value = all.iter().find(|value| *value.subject == *subject);
            value.map(|value| String::from_utf8_lossy(value.payload()).into_owned())
        };
        until("what was there is here", || kept("mode").as_deref() == Some("auto")).await;
        let mut watch = peer.start(&["kv-watch", "LAST"]);
        watch.expect_line("watching", LIMIT);
        let client = client(&server).await;
        let mut received = client.subscribe("*").await.unwrap();
        assert_eq!(next(&mut received).await, "auto");
        client.publish("lamp", "on").retain().await.unwrap();
        assert_eq!(next(&mut received).await, "on");
        assert_eq!(watch.expect_line("lamp ", LIMIT), "PUT on");
        assert_eq!(peer.run(&["kv-get", "LAST", "lamp"]), "on");
        peer.run(&["kv-put", "LAST", "lamp", "off"]);
        assert_eq!(next(&mut received).await, "off");
        until("it is the value", || kept("lamp").as_deref() == Some("off")).await;
        peer.run(&["kv-delete", "LAST", "lamp"]);
        until("it is none any more", || kept("lamp").is_none()).await;
        client.publish("mode", "").retain().await.unwrap();
        assert_eq!(watch.expect_line("mode ", LIMIT).trim_end(), "DEL");
    });
}
