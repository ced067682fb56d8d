//! What a server says of its sessions, and the last wills of who is lost: over its threads, and in the shell.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use kcpq_smol::{Client, Event, Subscription, Will};
use kcpq_std_server::access::{Access, Group, Permissions, Rules};
use kcpq_std_server::broker::{self, Audience, Presence};
use kcpq_std_server::{Config, Server};
use serde_json::{Value, json};
use support::program::kcpq;
use support::wait::{LIMIT, soon, until};

fn serve(shards: usize, presence: Presence, access: Option<Access>) -> Server {
    let broker = broker::Config { presence, ..broker::Config::default() };
    let shards = if cfg!(target_os = "linux") { shards } else { 1 };
    Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), shards, broker, access, ..Config::default() })
        .unwrap()
}

fn everybody() -> Presence {
    Presence { audience: Audience::Everybody, ..Presence::default() }
}

async fn connect(server: &Server, name: &str, will: Option<Will>) -> Client {
    let mut builder = Client::builder().name(name).timeout(LIMIT);
    if let Some(will) = will {
        builder = builder.will(will);
    }
    builder.connect(server.local_addr()).await.unwrap()
}

async fn next(subscription: &mut Subscription) -> (String, Value) {
    let message = soon("a notice", subscription.next()).await.unwrap();
    (message.subject().into(), serde_json::from_slice(message.payload()).unwrap())
}

fn kick(server: &Server, name: &str) {
    let lost = server.sessions().find(|session| session.client.as_deref() == Some(name)).unwrap();
    assert!(server.kick(lost.id));
}

#[test]
fn each_session_is_said_once_to_come_and_go_on_whichever_thread_it_is() {
    let server = serve(3, Presence { addresses: true, ..everybody() }, None);
    smol::block_on(async {
        let watcher = connect(&server, "watcher", None).await;
        // From here on it is known to be there, and does not hear of itself.
        watcher.ping().await.unwrap();
        let mut opened = watcher.subscribe("$KCPQ.session.opened.*").await.unwrap();
        let mut closed = watcher.subscribe("$KCPQ.session.closed.*").await.unwrap();
        let mut all = watcher.subscribe(">").await.unwrap();
        for number in 0..12 {
            let name = format!("client {number}");
            let client = connect(&server, &name, None).await;
            let (subject, notice) = next(&mut opened).await;
            let local = |key: &str| notice[key].clone();
            assert_eq!((subject.as_str(), &notice["name"]), ("$KCPQ.session.opened.-", &json!(name)), "{notice}");
            assert_eq!(
                (local("event"), local("kind"), local("ip")),
                (json!("opened"), json!("native"), json!("127.0.0.1"))
            );
            client.close().await.unwrap();
            let (_, end) = next(&mut closed).await;
            assert_eq!(
                (&end["cid"], &end["reason"], &end["port"]),
                (&notice["cid"], &json!("client"), &notice["port"])
            );
        }
        watcher.publish("marker", "").await.unwrap();
        assert_eq!(soon("the marker", all.next()).await.unwrap().subject(), "marker", "a wildcard matches none of it");
        assert_eq!((opened.try_next().is_none(), closed.try_next().is_none()), (true, true));
        let counted = server.snapshot().unwrap().broker;
        assert_eq!(counted.presence_missed, 0);
    });
    server.shutdown();
}

#[test]
fn nobody_hears_of_it_who_is_not_permitted_by_name() {
    let group = |allow: Option<&[&str]>| {
        let permissions = Permissions { subscribe: Rules::of(allow, &[]), ..Permissions::default() };
        let group = Group { name: "some".into(), permissions, ..Group::default() };
        Access { groups: vec![group], anonymous: Some(0), ..Access::default() }
    };
    for (audience, allow, permitted) in [
        (Audience::Nobody, Some(&["$KCPQ.>"][..]), false),
        (Audience::Permitted, None, false),
        (Audience::Permitted, Some(&[">"]), false),
        (Audience::Permitted, Some(&["$KCPQ.>"]), true),
        (Audience::Everybody, None, true),
    ] {
        let server = serve(1, Presence { audience, ..Presence::default() }, Some(group(allow)));
        smol::block_on(async {
            let client = connect(&server, "somebody", None).await;
            let subscribed = client.subscribe("$KCPQ.session.>").await;
            assert_eq!(subscribed.is_ok(), permitted, "{audience:?} {allow:?} {subscribed:?}");
            // Where the server speaks nobody else does, whatever is allowed.
            let mut events = client.events();
            client.publish("$KCPQ.session.opened.me", "{}").await.unwrap();
            let denied =
                |event: &Event| matches!(event, Event::Denied { subject } if &**subject == "$KCPQ.session.opened.me");
            while !denied(&soon("a refusal", events.next()).await.unwrap()) {}
        });
    }
}

#[test]
fn the_will_of_who_is_lost_reaches_all_threads_and_stays_as_last_value() {
    let server = serve(3, Presence::default(), None);
    smol::block_on(async {
        let watcher = connect(&server, "watcher", None).await;
        let mut status = watcher.subscribe("status.*").await.unwrap();
        for number in 0..6 {
            let (name, subject) = (format!("lamp {number}"), format!("status.{number}"));
            let will = Will::new(&subject, "offline").retain();
            let lamp = connect(&server, &name, Some(will)).await;
            lamp.flush().await.unwrap();
            until("the will", || server.snapshot().is_some_and(|view| view.broker.wills == 1)).await;
            kick(&server, &name);
            let message = soon("the will", status.next()).await.unwrap();
            assert_eq!((message.subject(), message.text()), (&*subject, "offline".into()));
            // It comes back, and says goodbye.
            until("the will again", || server.snapshot().is_some_and(|view| view.broker.wills == 1)).await;
            lamp.close().await.unwrap();
            until("its end", || server.snapshot().is_some_and(|view| view.broker.wills == 0)).await;
        }
        let late = connect(&server, "late", None).await;
        let mut values = late.subscribe("status.3").await.unwrap();
        assert_eq!(soon("the value", values.next()).await.unwrap().text(), "offline");
        assert!(status.try_next().is_none(), "each once");
        assert_eq!(server.snapshot().unwrap().broker.wills_published, 6);
    });
    server.shutdown();
}

#[test]
fn a_will_is_changed_taken_back_and_refused() {
    let server = serve(1, Presence::default(), None);
    smol::block_on(async {
        let client = connect(&server, "somebody", Some(Will::new("a", "1"))).await;
        let mut events = client.events();
        let left = |count: u64| server.snapshot().is_some_and(|view| view.broker.wills == count);
        until("a will", || left(1)).await;
        client.set_will(&Will::new("a", vec![0; 20_000])).unwrap();
        let refused = loop {
            if let Event::WillRefused { why } = soon("a refusal", events.next()).await.unwrap() {
                break why;
            }
        };
        assert_eq!(refused, "last will not taken: it has 20010 bytes, the limit is 16384");
        client.set_will(&Will::new("a", "2")).unwrap();
        until("a will", || left(1)).await;
        client.clear_will();
        until("none", || left(0)).await;
        assert!(client.set_will(&Will::new("a..b", "")).is_err());
        let none = Client::builder().will(Will::new("*", "")).connect(server.local_addr()).await;
        assert!(none.unwrap_err().to_string().starts_with("last will: invalid subject"));
    });
    server.shutdown();
}

/// `kcpq sub` with a will, which is killed when this is dropped.
struct Program {
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut command = kcpq();
        command.args(["sub", "-s", &server.local_addr().to_string(), "commands"]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "subscribed to commands\n");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, _stdout: stdout }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_program_that_is_killed_leaves_its_will_and_one_that_ends_does_not() {
    let server = serve(1, Presence::default(), None);
    smol::block_on(async {
        let watcher = connect(&server, "watcher", None).await;
        let mut status = watcher.subscribe("status.>").await.unwrap();
        for (name, kills) in [("--will", false), ("--will-topic", true)] {
            let subject = format!("status.{kills}");
            let args = [name, &subject, "--will-payload", "offline", "--will-retain"];
            let mut program = Program::start(&server, &args);
            until("the will", || server.snapshot().is_some_and(|view| view.broker.wills == 1)).await;
            if kills {
                program.child.kill().unwrap();
                program.child.wait().unwrap();
                // As the server does by itself when it has heard nothing for long enough.
                kick(&server, "kcpq sub");
                let message = soon("the will", status.next()).await.unwrap();
                assert_eq!((message.subject(), message.text()), ("status.true", "offline".into()), "of the other none");
            } else {
                let pid = program.child.id().to_string();
                assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
                assert!(program.child.wait().unwrap().success());
                until("its end", || server.snapshot().is_some_and(|view| view.broker.sessions == 1)).await;
            }
        }
        assert_eq!(server.kept().unwrap().len(), 1);
    });
    let mut refused = kcpq();
    refused.args(["sub", "-s", &server.local_addr().to_string(), "a", "--will", "$KCPQ.x"]).stdin(Stdio::null());
    let mut refused = refused.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(refused.stderr.take().unwrap()).lines().map(Result::unwrap).take(2).collect::<Vec<_>>();
    assert!(told.iter().any(|line| line == "last will not taken: not permitted to publish to $KCPQ.x"), "{told:?}");
    refused.kill().unwrap();
    refused.wait().unwrap();
    let output = kcpq()
        .args(["pub", "-s", &server.local_addr().to_string(), "a", "b", "--will", "$KCPQ.x"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("last will not taken: not permitted to publish to $KCPQ.x"), "{told}");
    assert_eq!(output.status.code(), Some(1));
    server.shutdown();
}
