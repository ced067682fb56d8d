//! `kcpq sub` and `kcpq pub` as parts of a pipe, and under somebody's hand.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kcpq_core::broker;
use kcpq_std_server::{Config, Server};
use serde_json::{Value, json};
use support::folder::Folder;
use support::port;
use support::process::Process;
use support::program::kcpq;
use support::wait::until;

/// Far more than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> Server {
    server_at("127.0.0.1:0".parse().unwrap(), broker::Config::default())
}

fn server_at(listen: SocketAddr, broker: broker::Config) -> Server {
    Server::bind(Config { listen, broker, ..Config::default() }).unwrap()
}

fn sessions(server: &Server, count: u64) {
    smol::block_on(until("sessions", || server.snapshot().is_some_and(|view| view.broker.sessions == count)));
}

fn publish(server: &Server, args: &[&str]) {
    let output = kcpq().args(["pub", "-s", &server.local_addr().to_string()]).args(args).stdin(Stdio::null()).output();
    assert!(output.unwrap().status.success());
}

/// A subscriber whose output nobody reads unless the test does. It is killed when this is dropped.
struct Piped {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Piped {
    fn subscribe(server: &Server, args: &[&str]) -> Self {
        let mut command = kcpq();
        command.args(["sub", "-s", &server.local_addr().to_string()]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("subscribed to "), "{line}");
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    fn signal(&self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
    }

    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a request came to: exit code, standard output, standard error.
fn request(server: &Server, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = kcpq();
    command.args(["req", "-s", &server.local_addr().to_string()]).args(args).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Somebody who answers, once it says that it does.
fn answering(server: &Server, args: &[&str]) -> Process {
    let mut command = kcpq();
    command.args(["reply", "-s", &server.local_addr().to_string()]).args(args);
    let process = Process::spawn(&mut command);
    process.expect_error_line("answering ", PATIENCE);
    process
}

#[test]
fn a_request_is_answered_or_says_why_not() {
    let server = server();
    let nobody = request(&server, &["nobody", "?"]);
    assert_eq!(nobody, (Some(1), String::new(), "kcpq: nobody is subscribed to nobody\n".into()));

    let _echo = answering(&server, &["echo.*", "--echo", "-H", "By: echo"]);
    assert_eq!(request(&server, &["echo.a", "hello"]), (Some(0), "hello\n".into(), String::new()));
    let (code, shown, _) = request(&server, &["echo.a", "hello", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["payload"], &shown["headers"]), (Some(0), &json!("hello"), &json!({ "By": ["echo"] })));

    let _fixed = [(); 2].map(|()| answering(&server, &["who", "me"]));
    assert_eq!(request(&server, &["who", "", "-r", "2", "--raw"]), (Some(0), "meme".into(), String::new()));
    let few = request(&server, &["who", "", "-r", "3", "-w", "300ms"]);
    assert_eq!(few, (Some(3), "me\nme\n".into(), "kcpq: timed out: 2 of 3 answers received\n".into()));
    assert_eq!(request(&server, &["who", "", "--all", "-w", "300ms"]), (Some(0), "me\nme\n".into(), String::new()));

    let silent = Piped::subscribe(&server, &["silent"]);
    let late = request(&server, &["silent", "?", "-w", "100ms"]);
    assert_eq!(late, (Some(3), String::new(), "kcpq: timed out: 0 of 1 answers received\n".into()));
    drop(silent);
}

#[cfg(unix)]
#[test]
fn a_command_answers() {
    let server = server();
    let upper = answering(&server, &["upper.*", "--command", "tr a-z A-Z; echo $KCPQ_SUBJECT; exit 4", "-c", "1"]);
    let (code, shown, _) = request(&server, &["upper.x", "hello", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["payload"]), (Some(0), &json!("HELLOupper.x\n")));
    assert_eq!(shown["headers"], json!({ "Exit-Code": ["4"] }));
    assert!(upper.wait(PATIENCE).status.success(), "it ends after its count");
}

#[test]
fn headers_are_published_and_printed() {
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["--json", "a"]);
    let mut printer = Piped::subscribe(&server, &["--headers", "a"]);
    publish(&server, &["-H", "Trace-Id: 7", "--header", "Trace-Id:8", "a", "hello"]);
    let message: Value = serde_json::from_str(&subscriber.line()).unwrap();
    assert_eq!(message, json!({ "subject": "a", "payload": "hello", "headers": { "Trace-Id": ["7", "8"] } }));
    let lines: String = (0..3).map(|_| printer.line()).collect();
    assert_eq!(lines, "Trace-Id: 7\nTrace-Id: 8\na: hello\n");
}

#[test]
fn a_subscriber_ends_quietly_when_its_reader_has_gone_and_closes_its_session() {
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a"]);
    publish(&server, &["a", "one"]);
    assert_eq!(subscriber.line(), "a: one\n");
    // As `head -1` does. No other message comes.
    drop(subscriber.stdout.take());
    assert!(subscriber.end().success());
    let mut said = String::new();
    subscriber.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    sessions(&server, 0);
}

#[test]
fn an_interrupt_ends_a_subscriber_whose_reader_stands_still() {
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a", "--raw"]);
    // Far more than a pipe holds.
    let mut publisher =
        kcpq().args(["pub", "-s", &server.local_addr().to_string(), "a"]).stdin(Stdio::piped()).spawn().unwrap();
    publisher.stdin.take().unwrap().write_all(&vec![b'.'; 1 << 20]).unwrap();
    assert!(publisher.wait().unwrap().success());
    let mut first = [0];
    subscriber.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    subscriber.signal();
    assert!(subscriber.end().success());
    sessions(&server, 0);
}

#[test]
fn a_subscriber_to_the_latest_prints_the_newest_when_its_reader_goes_on() {
    const COUNT: usize = 4_000;
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a", "--latest", "--lines"]);
    let mut publisher = kcpq()
        .args(["pub", "-s", &server.local_addr().to_string(), "--lines", "a"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Far more than pipes hold and than can be under way.
    let mut input = publisher.stdin.take().unwrap();
    for number in 0..COUNT {
        writeln!(input, "{number:04}{}", ".".repeat(4_000)).unwrap();
    }
    drop(input);
    assert!(publisher.wait().unwrap().success());
    let mut seen = Vec::new();
    while seen.last() != Some(&(COUNT - 1)) {
        seen.push(subscriber.line()[..4].parse().unwrap());
    }
    assert!(seen.is_sorted() && seen.len() < COUNT / 2, "{} of {COUNT}", seen.len());
    subscriber.signal();
    assert!(subscriber.end().success(), "what is superseded is not missed");
}

#[test]
fn an_interrupt_before_the_count_is_reached_has_the_exit_code_of_that() {
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a", "--count", "2"]);
    publish(&server, &["a", "one"]);
    assert_eq!(subscriber.line(), "a: one\n");
    subscriber.signal();
    assert_eq!(subscriber.end().code(), Some(3));
    let mut said = String::new();
    subscriber.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "kcpq: interrupted: 1 of 2 messages received\n");
}

/// A measurement that is to take minutes: what there is is told, and its sessions are closed.
#[test]
fn an_interrupt_ends_a_measurement_and_nothing_of_it_stays_at_the_server() {
    for what in [&["pubsub", "--rate", "500"][..], &["fanout", "--subs", "3"], &["connections", "--count", "5"]] {
        let server = server();
        let addr = server.local_addr().to_string();
        let bench = Process::spawn(
            kcpq().args(["bench", what[0], "-s", &addr, "--duration", "1h", "--no-progress"]).args(&what[1..]),
        );
        let begun = |view: &kcpq_std_server::Snapshot| match what[0] {
            "connections" => view.broker.sessions == 5,
            _ => view.broker.messages_in > 100,
        };
        smol::block_on(until("load", || server.snapshot().is_some_and(|view| begun(&view))));
        bench.interrupt();
        let output = bench.wait(PATIENCE);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(stdout.starts_with(what[0]), "{stdout}");
        assert_eq!(stderr, "kcpq: interrupted: the figures are of what there was until then\n");
        sessions(&server, 0);
    }
}

#[test]
fn a_message_that_several_subjects_match_is_printed_and_counted_once() {
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a.*", "a.b", "a.b", "*.b", ">", "--count", "3"]);
    for (subject, text) in [("a.b", "one"), ("a.c", "two"), ("c", "three")] {
        publish(&server, &[subject, text]);
    }
    assert_eq!([subscriber.line(), subscriber.line(), subscriber.line()], ["a.b: one\n", "a.c: two\n", "c: three\n"]);
    assert_eq!(subscriber.line(), "");
    assert!(subscriber.end().success());
}

#[test]
fn an_interrupt_ends_a_subscriber_that_finds_no_server() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let subscriber = Process::spawn(kcpq().args(["sub", "-s", &addr, "--timeout", "1h", "a"]));
    silent.recv(&mut [0; 1_500]).unwrap();
    subscriber.interrupt();
    assert!(subscriber.wait(PATIENCE).status.success());
}

#[test]
fn a_subscriber_says_when_there_is_no_server_and_when_it_is_back_and_what_it_has_lost() {
    let addr = port::free_addr();
    let first = server_at(addr, broker::Config::default());
    let subscriber = Process::spawn(kcpq().args(["sub", "-s", &addr.to_string(), "a", "b"]));
    subscriber.expect_error_line("subscribed to a, b", PATIENCE);
    first.shutdown();
    subscriber.expect_error_line("connection lost: the server closed the session", PATIENCE);
    let second = server_at(addr, broker::Config { max_subscriptions: 1, ..broker::Config::default() });
    subscriber.expect_error_line("connected again", PATIENCE);
    subscriber.expect_error_line("subscription to b lost: ", PATIENCE);
    subscriber.terminate();
    assert!(subscriber.wait(PATIENCE).status.success());
    drop(second);
}

#[test]
fn lines_travel_as_messages() {
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a", "--lines", "--count", "3"]);
    let mut publisher = kcpq()
        .args(["pub", "-s", &server.local_addr().to_string(), "--lines", "a"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = publisher.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    // Each as it comes.
    assert_eq!(subscriber.line(), "one\n");
    input.write_all(b"\nwithout an end").unwrap();
    drop(input);
    assert!(publisher.wait().unwrap().success());
    assert_eq!((subscriber.line(), subscriber.line()), ("\n".into(), "without an end\n".into()));
    assert!(subscriber.end().success());
}

#[test]
fn a_message_is_published_again_and_again_and_from_files() {
    let folder = Folder::new("published");
    let text = folder.write("text", "from a file\n");
    let lines = folder.write("lines", "one\ntwo\nthree\n");
    let (text, lines) = (text.to_str().unwrap(), lines.to_str().unwrap());
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a", "--json"]);
    let mut next = || serde_json::from_str::<Value>(&subscriber.line()).unwrap();
    publish(&server, &["a", "--file", text, "--reply-to", "answers"]);
    assert_eq!(next(), json!({ "subject": "a", "payload": "from a file\n", "reply_to": "answers" }));
    publish(&server, &["a", "again", "--count", "3", "--interval", "1ms"]);
    assert_eq!([next(), next(), next()].map(|message| message["payload"].clone()), ["again"; 3]);
    publish(&server, &["a", "--file", lines, "--lines", "--count", "2"]);
    assert_eq!([next(), next()].map(|message| message["payload"].clone()), ["one", "two"]);
    // Standard input by its name, where nothing is.
    publish(&server, &["a", "--file", "-"]);
    assert_eq!(next()["payload"], "");

    let missing = kcpq().args(["pub", "a", "--file", "no/such/file"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("kcpq: cannot read no/such/file: "));
    assert_eq!(kcpq().args(["pub", "a", "b", "--file", "c"]).output().unwrap().status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_publishing_and_says_if_there_was_to_be_more() {
    let server = server();
    let addr = server.local_addr().to_string();
    let mut subscriber = Piped::subscribe(&server, &["a"]);
    let endless = Process::spawn(kcpq().args(["pub", "-s", &addr, "a", "x", "--interval", "1ms"]));
    assert_eq!([subscriber.line(), subscriber.line()], ["a: x\n", "a: x\n"]);
    endless.interrupt();
    assert!(endless.wait(PATIENCE).status.success(), "it was to be ended so");
    let counted = Process::spawn(kcpq().args(["pub", "-s", &addr, "a", "y", "--interval", "1h", "--count", "2"]));
    while subscriber.line() != "a: y\n" {}
    counted.interrupt();
    let output = counted.wait(PATIENCE);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*said), (Some(3), "kcpq: interrupted: 1 of 2 messages published\n"));
}

#[test]
fn a_subscriber_dumps_messages_to_a_file_and_tells_how_many_came() {
    let folder = Folder::new("dumped");
    let file = folder.0.join("messages");
    let server = server();
    let addr = server.local_addr().to_string();
    let dumping = |args: &[&str]| {
        let mut command = kcpq();
        command.args(["sub", "-s", &addr, "a.*", "--dump", file.to_str().unwrap()]).args(args);
        let process = Process::spawn(&mut command);
        process.expect_error_line("subscribed to ", PATIENCE);
        process
    };
    let subscriber = dumping(&["--count", "2", "--timestamps"]);
    publish(&server, &["a.b", "one\ntwo"]);
    publish(&server, &["a.c", "three"]);
    let output = subscriber.wait(PATIENCE);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    let text = std::fs::read_to_string(&file).unwrap();
    let messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (messages.len(), &messages[0]["payload"], &messages[1]["subject"]),
        (2, &json!("one\ntwo"), &json!("a.c"))
    );
    assert!(messages[0]["time"].as_str().unwrap() <= messages[1]["time"].as_str().unwrap());

    let subscriber = dumping(&["--raw", "--stats"]);
    publish(&server, &["a.b", "four"]);
    subscriber.expect_logged(" msg/s, ", PATIENCE);
    subscriber.expect_logged("1 in all; 0 dropped, 0 waiting; round trip ", PATIENCE);
    publish(&server, &["a.b", "five"]);
    subscriber.expect_logged("2 in all; ", PATIENCE);
    subscriber.terminate();
    assert!(subscriber.wait(PATIENCE).status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "fourfive");

    let cannot = kcpq().args(["sub", "-s", &addr, "a", "--dump", "no/such/folder/x"]).output().unwrap();
    assert!(String::from_utf8_lossy(&cannot.stderr).starts_with("kcpq: cannot write to no/such/folder/x: "));
}

#[test]
fn a_subscriber_prints_subjects_only_or_nothing() {
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a.*", "--subjects-only"]);
    let mut quiet = Piped::subscribe(&server, &["a.*", "--quiet", "--count", "1"]);
    publish(&server, &["a.b", "one"]);
    assert_eq!((subscriber.line(), quiet.line()), ("a.b\n".into(), String::new()));
    assert!(quiet.end().success());
}

#[test]
fn json_can_be_read_by_programs() {
    let server = server();
    let mut subscriber = Piped::subscribe(&server, &["a.>", "--json", "--count", "1"]);
    publish(&server, &["a.b", "line\nx.y: \"forged\""]);
    let found: Value = serde_json::from_str(&subscriber.line()).unwrap();
    assert_eq!(found, json!({ "subject": "a.b", "payload": "line\nx.y: \"forged\"" }));
    assert!(subscriber.end().success());
}

#[test]
fn a_server_is_asked_whether_it_is_there_and_how_far_away() {
    let server = server();
    let addr = server.local_addr().to_string();
    let ping = |args: &[&str]| kcpq().args(["ping", "-s", &addr, "-c", "3", "-i", "1ms"]).args(args).output().unwrap();
    let output = ping(&[]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(
        lines[0].starts_with(&format!("connected to {addr} in ")) && lines[0].ends_with("native protocol"),
        "{text}"
    );
    assert!(lines[3].starts_with("3: ") && lines[4].starts_with("3 asked, 3 answered; min "), "{text}");
    let by_its_other_name = kcpq().args(["rtt", "-s", &addr, "-c", "1"]).output().unwrap();
    assert!(by_its_other_name.status.success());
    let output = ping(&["--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["server"], &found["native"], &found["answered"]),
        (&json!(addr), &json!(true), &json!(3)),
        "{found}"
    );
    assert!(found["round_trip_ms"]["max"].as_f64().unwrap() > 0.0 && found["max_datagram"].is_u64(), "{found}");
    sessions(&server, 0);
}

#[test]
fn a_server_that_is_not_there_is_a_failure_of_ping() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let output = kcpq().args(["ping", "-s", &addr, "-c", "1", "--timeout", "50ms"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&addr), "{said}");
}
