//! `kcpq bench` against a server: it counts right, and prints what programs read.

mod support;

use std::process::Command;
use std::time::Duration;

use kcpq_std_server::{Config, Server};
use serde_json::Value;
use support::process::Process;
use support::wait::until;

/// Far more than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `kcpq bench ARGS -s SERVER --json`; what it printed, if it succeeded.
fn bench(args: &[&str]) -> Value {
    let mut server = Process::spawn(Command::new(env!("CARGO_BIN_EXE_kcpq")).args(["serve", "-l", "127.0.0.1:0"]));
    let addr = server.expect_line("listening on ", PATIENCE);
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcpq"));
    let output = Process::spawn(command.arg("bench").args(args).args(["-s", &addr, "--json"])).wait(PATIENCE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_subscriber_gets_every_message_of_every_publisher() {
    let found = bench(&["pubsub", "--count", "500", "--pubs", "2", "--subs", "3", "--size", "100", "--window", "100"]);
    assert_eq!((&found["published"], &found["delivered"], &found["lost"]), (&1000.into(), &3000.into(), &0.into()));
    for field in ["seconds", "msgs_per_s", "bytes_per_s", "retransmitted"] {
        assert!(found[field].is_number(), "{field}: {found}");
    }
    for field in ["p50", "p90", "p99", "p999", "max"] {
        assert!(found["latency_us"][field].is_number(), "{field}: {found}");
    }
}

#[test]
fn the_connections_can_be_shared() {
    let found = bench(&["fanin", "--count", "100", "--connections", "shared", "--warmup", "50ms"]);
    assert_eq!((&found["published"], &found["delivered"]), (&1000.into(), &1000.into()));
}

#[test]
fn a_publisher_can_have_several_sessions() {
    for command in ["pubsub", "pub"] {
        let found = bench(&[command, "--count", "1000", "--pubs", "2", "--sessions", "3"]);
        let published = (&found["published"], &found["sessions"], &found["lost"], &found["repeated"]);
        assert_eq!(published, (&2000.into(), &3.into(), &0.into(), &0.into()), "{found}");
    }
}

#[test]
fn short_messages_are_counted_but_not_timed() {
    let found = bench(&["pubsub", "--count", "100", "--size", "1"]);
    assert_eq!((&found["delivered"], &found["latency_us"]), (&100.into(), &Value::Null));
}

#[test]
fn messages_with_a_rate_are_all_timed() {
    for spin in [None, Some("--spin=0s"), Some("--spin=1ms")] {
        let found = bench(&["pubsub", "--count", "200", "--rate", "1000"].into_iter().chain(spin).collect::<Vec<_>>());
        assert_eq!((&found["lost"], &found["latency_us"]["samples"]), (&0.into(), &200.into()));
    }
}

#[test]
fn each_question_gets_its_answer() {
    let found = bench(&["latency", "--count", "200"]);
    assert_eq!((&found["delivered"], &found["latency_us"]["samples"]), (&200.into(), &200.into()));
}

#[test]
fn publishing_alone_counts_what_the_server_has_handled() {
    let found = bench(&["pub", "--count", "300", "--warmup", "20ms"]);
    assert_eq!((&found["published"], &found["acknowledged"], &found["lost"]), (&300.into(), &300.into(), &0.into()));
}

#[test]
fn sessions_are_opened_and_kept() {
    let found = bench(&["connections", "--count", "20", "--duration", "10ms"]);
    assert_eq!((&found["sessions"], &found["lost"]), (&20.into(), &0.into()));
}

#[test]
fn what_another_process_publishes_is_counted_and_timed() {
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).unwrap();
    let addr = server.local_addr().to_string();
    let bench = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcpq"));
        Process::spawn(command.arg("bench").args(args).args(["-s", &addr, "--json"]))
    };
    let subscriber = bench(&["sub", "--subs", "2", "--count", "100"]);
    smol::block_on(until("both subscribe", || server.snapshot().unwrap().broker.subscriptions == 2));
    let publisher = bench(&["pub", "--rate", "1000", "--count", "100"]).wait(PATIENCE);
    assert!(publisher.status.success(), "{}", String::from_utf8_lossy(&publisher.stderr));
    let output = subscriber.wait(PATIENCE);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["delivered"], &found["lost"]), (&200.into(), &0.into()));
    assert_eq!(found["latency_us"]["samples"], 200);
}

#[test]
fn runs_of_publishers_are_told_apart_and_a_count_that_is_not_reached_is_a_failure() {
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).unwrap();
    let addr = server.local_addr().to_string();
    let bench = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kcpq"));
        Process::spawn(command.arg("bench").args(args).args(["-s", &addr, "--json"]))
    };
    let subscribers = [["200", "5s"], ["300", "500ms"]]
        .map(|[count, timeout]| bench(&["sub", "--count", count, "--timeout", timeout]));
    smol::block_on(until("both subscribe", || server.snapshot().unwrap().broker.subscriptions == 2));
    for publisher in [bench(&["pub", "--count", "100"]), bench(&["pub", "--count", "100"])] {
        assert!(publisher.wait(PATIENCE).status.success());
    }
    for (subscriber, code) in subscribers.into_iter().zip([0, 3]) {
        let output = subscriber.wait(PATIENCE);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(said.contains("timed out: 200 of 300 messages received"), code == 3, "{said}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&found["delivered"], &found["repeated"], &found["lost"]), (&200.into(), &0.into(), &0.into()));
        assert_eq!(found["runs"], 2);
    }
}

#[test]
fn a_publisher_says_what_was_not_acknowledged() {
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).unwrap();
    let addr = server.local_addr().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcpq"));
    let args = ["bench", "pub", "--rate", "200", "--count", "300", "--timeout", "500ms", "--json", "-s", &addr];
    let publisher = Process::spawn(command.args(args));
    smol::block_on(until("messages", || server.snapshot().is_some_and(|view| view.broker.messages_in > 10)));
    drop(server);
    let output = publisher.wait(PATIENCE);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |field: &str| found[field].as_u64().unwrap();
    assert_eq!((count("published"), count("acknowledged") + count("lost")), (300, 300), "{found}");
    assert!(count("acknowledged") > 10 && count("lost") > 0 && found["delivered"].is_null(), "{found}");
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("kcpq: {} of 300 messages were not acknowledged by the server", count("lost"));
    assert!(output.status.code() == Some(1) && said.contains(&expected), "{said}");
}

/// The guests' own checks fail it: a message that is altered, doubled or out of order, one of the steady pair's that is lost,
/// a descriptor that is not given back.
#[test]
fn a_server_is_as_it_was_when_its_guests_have_gone() {
    let mut server = Process::spawn(Command::new(env!("CARGO_BIN_EXE_kcpq")).args(["serve", "-l", "127.0.0.1:0"]));
    let addr = server.expect_line("listening on ", PATIENCE);
    let pid = server.id().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcpq"));
    command.args(["bench", "soak", "-s", &addr, "--duration", "3s", "--guests", "10", "--server-pid", &pid, "--json"]);
    let output = Process::spawn(&mut command).wait(Duration::from_secs(240));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["faults"], Value::Array(Vec::new()), "{found}");
    for field in ["came", "published", "received", "answered"] {
        assert!(found["visits"][field].as_u64().unwrap() > 0, "{field}: {found}");
    }
    for stretch in found["steady"].as_array().unwrap() {
        assert_eq!(stretch["published"], stretch["delivered"], "{found}");
    }
}
