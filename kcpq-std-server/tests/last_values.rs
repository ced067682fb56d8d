//! Last values of subjects: over the threads of a server, across its restarts, and in the shell.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use futures_lite::future::poll_once;
use kcpq_smol::{Client, Event, PublishError, kcpq_core};
use kcpq_std_server::broker::{KeptView, LastValues};
use kcpq_std_server::{Config, Server};
use serde_json::{Value, json};
use support::process::Process;
use support::program::kcpq;
use support::wait::{LIMIT, soon, until};

/// A folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kcpq-last-values-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("values")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serve(shards: usize, file: Option<&Path>) -> Server {
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        shards: if cfg!(target_os = "linux") { shards } else { 1 },
        values_file: file.map(Into::into),
        ..Config::default()
    };
    Server::bind(config).unwrap()
}

async fn connect(server: &Server) -> Client {
    Client::builder().timeout(LIMIT).connect(server.local_addr()).await.unwrap()
}

fn kept(server: &Server) -> Vec<(String, Vec<u8>)> {
    let view = |value: KeptView| (value.subject.to_string(), value.payload().to_vec());
    server.kept().unwrap().into_iter().map(view).collect()
}

#[test]
fn a_value_is_given_on_whichever_thread_a_subscriber_is() {
    let server = serve(3, None);
    smol::block_on(async {
        let publisher = connect(&server).await;
        assert!(publisher.server_info().is_some_and(|info| info.keeps_last_values));
        for subject in 0..500 {
            let subject = format!("device.{subject}");
            publisher.publish(&subject, format!("{subject} is on")).header("unit", "none").retain().await.unwrap();
        }
        publisher.publish("device.0", "").retain().await.unwrap();
        publisher.flush().await.unwrap();
        // Each thread has them once it has heard of them.
        for _ in 0..12 {
            let client = connect(&server).await;
            let mut values = client.subscribe("device.*").await.unwrap();
            let mut live = client.subscribe("device.*").without_kept().await.unwrap();
            let mut seen = std::collections::BTreeSet::new();
            while seen.len() < 499 {
                let message = soon("the values", values.next()).await.unwrap();
                // What another thread had not heard of when the subscription was made comes as a message.
                assert!(message.is_kept() == message.age().is_some() && !message.text().is_empty());
                assert_eq!(message.headers().get("unit"), Some("none"));
                assert_eq!(message.text(), format!("{} is on", message.subject()));
                assert!(seen.insert(message.subject().to_owned()), "{} came twice", message.subject());
            }
            assert!(
                poll_once(live.next()).await.is_none_or(|message| message.is_some_and(|message| !message.is_kept()))
            );
            client.close().await.unwrap();
        }
        let counted = server.snapshot().unwrap().broker;
        assert_eq!((counted.kept, counted.kept_refused), (499, 0));
    });
    server.shutdown();
}

#[test]
fn values_outlive_the_server_and_a_file_that_is_none_is_put_aside() {
    let folder = Folder::new("restart");
    let server = serve(2, Some(&folder.file()));
    smol::block_on(async {
        let client = connect(&server).await;
        for (subject, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
            client.publish(subject, payload).retain().await.unwrap();
        }
        client.publish("c", "").retain().await.unwrap();
        client.publish("d", "5").ttl(Duration::from_millis(1)).retain().await.unwrap();
        client.flush().await.unwrap();
        // What is published last is written as well: at the end.
        server.shutdown();
    });
    let values = [("a".to_owned(), b"3".to_vec()), ("b".to_owned(), b"2".to_vec())];
    let server = serve(2, Some(&folder.file()));
    smol::block_on(async {
        until("what has lapsed is gone", || kept(&server) == values).await;
        let client = connect(&server).await;
        let mut received = client.subscribe("a").await.unwrap();
        assert!(soon("the value", received.next()).await.unwrap().is_kept());
        // A change is written while the server runs.
        client.publish("b", "7").retain().await.unwrap();
        client.flush().await.unwrap();
        let written = || fs::read(folder.file()).is_ok_and(|bytes| bytes.windows(2).any(|two| two == b"b7"));
        until("the change is written", written).await;
    });
    drop(server);
    fs::write(folder.file(), "[Unit]").unwrap();
    let server = serve(1, Some(&folder.file()));
    assert_eq!(kept(&server), []);
    server.shutdown();
    let files = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path());
    let aside = files.filter(|path| path.to_string_lossy().contains(".aside-")).collect::<Vec<_>>();
    assert!(aside.len() == 1 && fs::read(&aside[0]).unwrap() == b"[Unit]", "{aside:?}");
    // Values that the limits do not let in any more are put aside as well.
    let bind = |most| {
        let last_values = LastValues { max_subjects: most, ..LastValues::default() };
        let values_file = Some(folder.file());
        Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), last_values, values_file, ..Config::default() })
            .unwrap()
    };
    let server = bind(2);
    smol::block_on(async {
        let client = connect(&server).await;
        for subject in ["a", "b"] {
            client.publish(subject, "1").retain().await.unwrap();
        }
        client.flush().await.unwrap();
    });
    server.shutdown();
    let server = bind(1);
    assert_eq!(kept(&server).len(), 1);
    server.shutdown();
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3, "the file, and two that were put aside");
}

#[test]
fn a_server_that_keeps_none_is_an_error_and_so_is_a_pattern_that_is_none() {
    let bind =
        |last_values| Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), last_values, ..Config::default() });
    let server = bind(LastValues { max_subjects: 0, ..LastValues::default() }).unwrap();
    smol::block_on(async {
        let client = connect(&server).await;
        let refused = client.publish("a", "1").retain().await;
        assert!(matches!(refused, Err(PublishError::Refused(kcpq_core::client::PublishError::Unsupported))));
        assert!(client.server_info().is_some_and(|info| !info.keeps_last_values));
    });
    let error = bind(LastValues { subjects: vec!["a..b".into()], ..LastValues::default() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "subjects whose last values are to be kept: pattern 'a..b': invalid subject: empty token at byte 2"
    );
    let server = bind(LastValues { max_value: 100, ..LastValues::default() }).unwrap();
    smol::block_on(async {
        let client = connect(&server).await;
        let mut events = client.events();
        client.publish("a", [7; 200]).retain().await.unwrap();
        let told = soon("the refusal", async {
            loop {
                if let Event::Refused { text } = events.next().await.unwrap() {
                    return text;
                }
            }
        });
        assert!(told.await.starts_with("not kept as the last value of a: a value of 2"));
    });
}

/// What the server says over HTTP.
fn get(http: &str, target: &str) -> Value {
    let mut stream = TcpStream::connect(http.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn publish(addr: &str, args: &[&str]) -> Output {
    kcpq().args(["pub", "-s", addr]).args(args).stdin(Stdio::null()).output().unwrap()
}

fn subscribed(addr: &str, args: &[&str]) -> Vec<Value> {
    let output = kcpq().args(["sub", "-s", addr, "--json", "--wait", "300ms"]).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn in_the_shell_values_are_kept_shown_taken_away_and_outlive_the_server() {
    let folder = Folder::new("shell");
    let serve = |more: &[&str]| {
        let mut command = kcpq();
        command.args(["serve", "-l", "127.0.0.1:0", "--register", "none", "--http", "0", "--keep", "state.> mode"]);
        let mut server = Process::spawn(command.arg("--kept-file").arg(folder.file()).args(more));
        let addr = server.expect_line("listening on ", LIMIT);
        let http = server.expect_line("monitoring on ", LIMIT);
        (server, addr, http)
    };
    let (server, addr, _) = serve(&[]);
    for args in [&["state.a", "1"][..], &["mode", "2"], &["event", "3"], &["--retain", "event.b", "4", "-H", "unit: K"]]
    {
        assert!(publish(&addr, args).status.success(), "{args:?}");
    }
    server.terminate();
    assert!(server.wait(LIMIT).status.success());
    let (server, addr, http) = serve(&[]);
    let mut shown = subscribed(&addr, &[">"]);
    for value in &mut shown {
        assert!(value["kept_ms"].take().is_u64(), "{value}");
    }
    assert_eq!(
        shown,
        [
            json!({ "subject": "event.b", "payload": "4", "headers": { "unit": ["K"] }, "kept_ms": null }),
            json!({ "subject": "mode", "payload": "2", "kept_ms": null }),
            json!({ "subject": "state.a", "payload": "1", "kept_ms": null }),
        ]
    );
    assert_eq!(subscribed(&addr, &["mode", "*"]).len(), 1, "both subjects have it, and it is printed once");
    assert_eq!(subscribed(&addr, &["mode", "--no-kept"]), Vec::<Value>::new());
    let page = get(&http, "/keptz?test=state.*");
    assert_eq!(
        (&page["num_values"], &page["total"], &page["values_list"][0]["subject"]),
        (&json!(3), &json!(1), &json!("state.a"))
    );
    assert!(publish(&addr, &["--retain", "event.b", ""]).status.success());
    assert_eq!(subscribed(&addr, &["event.*"]), Vec::<Value>::new());
    server.terminate();
    assert!(server.wait(LIMIT).status.success());
    let (_server, addr, _) = serve(&["--max-kept-size", "50"]);
    let refused = publish(&addr, &["--retain", "event.b", &"x".repeat(100)]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && told.contains("not kept as the last value of event.b"), "{told}");
}
