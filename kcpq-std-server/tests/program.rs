//! The program `kcpq` as people use it: processes, signals, exit codes.

mod support;

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kcpq_smol::{Backoff, Client, Event};
use support::process::Process;
use support::program::kcpq;
use support::wait::{soon, until};

const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A server on a free port, and its address.
fn serve(configure: impl FnOnce(&mut Command)) -> (Process, String) {
    let mut command = kcpq();
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    configure(&mut command);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", PATIENCE);
    (server, addr)
}

fn subscribe(addr: &str, args: &[&str]) -> Process {
    let process = Process::spawn(kcpq().args(["sub", "-s", addr]).args(args));
    process.expect_error_line("subscribed to ", PATIENCE);
    process
}

fn publish(addr: &str, args: &[&str]) -> Output {
    kcpq().args(["pub", "-s", addr]).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_message_travels_through_three_shells() {
    let (server, addr) = serve(|_| {});
    let subscriber = subscribe(&addr, &["greet.*", "--count", "2"]);
    assert!(publish(&addr, &["greet.world", "hello"]).status.success());
    let mut from_stdin =
        kcpq().args(["pub", "greet.you"]).env("KCPQ_SERVER", &addr).stdin(Stdio::piped()).spawn().unwrap();
    from_stdin.stdin.take().unwrap().write_all(b"from standard input").unwrap();
    assert!(from_stdin.wait().unwrap().success());
    let output = subscriber.wait(PATIENCE);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "greet.world: hello\ngreet.you: from standard input\n");
    server.terminate();
    assert!(server.wait(PATIENCE).status.success(), "SIGTERM is a regular end");
}

#[test]
fn the_members_of_a_queue_group_share_what_comes() {
    let (server, addr) = serve(|_| {});
    let first = subscribe(&addr, &["jobs", "--queue", "workers", "--count", "4", "--lines"]);
    // Each subject of a program is a member.
    let second = subscribe(&addr, &["jobs", ">", "-q", "workers", "--count", "8", "--lines"]);
    let numbers = (10..22).map(|number| format!("{number}\n")).collect::<String>();
    let mut from_stdin = kcpq().args(["pub", "-s", &addr, "jobs", "--lines"]).stdin(Stdio::piped()).spawn().unwrap();
    from_stdin.stdin.take().unwrap().write_all(numbers.as_bytes()).unwrap();
    assert!(from_stdin.wait().unwrap().success());
    let outputs = [first, second].map(|member| member.wait(PATIENCE));
    let mut got: Vec<_> = outputs.iter().flat_map(|output| text(&output.stdout).lines()).collect();
    got.sort_unstable();
    assert!(outputs.iter().all(|output| output.status.success()));
    assert!(got.into_iter().eq(numbers.lines()));
    server.terminate();
    assert!(server.wait(PATIENCE).status.success());
}

/// In whichever lane something is published, and however that is wanted, it comes; in one lane in order.
#[test]
fn lanes_are_named_on_the_command_line() {
    let (server, addr) = serve(|command| {
        command.args(["--shards", "2"]);
    });
    let plain = subscribe(&addr, &["a.*", "--count", "7", "--lines"]);
    let wanted = subscribe(&addr, &["a.*", "--lane", "urgent", "--count", "7", "--lines"]);
    let mut from_stdin =
        kcpq().args(["pub", "-s", &addr, "a.b", "--lines", "--lane", "bulk"]).stdin(Stdio::piped()).spawn().unwrap();
    from_stdin.stdin.take().unwrap().write_all(b"1\n2\n3\n4\n").unwrap();
    assert!(from_stdin.wait().unwrap().success());
    for lane in ["urgent", "normal", "7"] {
        let published = publish(&addr, &["a.c", lane, "--lane", lane, "--confirm"]);
        assert_eq!((published.status.success(), text(&published.stdout)), (true, "2\n"));
    }
    for subscriber in [plain, wanted] {
        let output = subscriber.wait(PATIENCE);
        let (numbers, mut lanes): (Vec<_>, Vec<_>) =
            text(&output.stdout).lines().partition(|line| ("1"..="4").contains(line));
        lanes.sort_unstable();
        assert_eq!((numbers, lanes), (vec!["1", "2", "3", "4"], vec!["7", "normal", "urgent"]));
    }
    let refused = publish(&addr, &["a.b", "x", "--lane", "8"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("a number from 0 to 7"));
    server.terminate();
    assert!(server.wait(PATIENCE).status.success());
}

#[test]
fn who_wants_to_know_is_told_how_many_have_a_message_or_why_none_has() {
    let rules = fresh_path("confirm.toml");
    std::fs::write(&rules, "[permissions.default]\npublish = { deny = ['secret'] }\n").unwrap();
    let (_server, addr) = serve(|command| {
        command.arg("--config").arg(&rules);
    });
    let _subscribers = [subscribe(&addr, &["greet.*"]), subscribe(&addr, &[">"])];
    let told = publish(&addr, &["--confirm", "--count", "2", "greet.world", "hello"]);
    assert_eq!((told.status.code(), text(&told.stdout)), (Some(0), "2\n2\n"), "{told:?}");
    assert_eq!(text(&publish(&addr, &["--confirm", "other", "hello"]).stdout), "1\n");
    let refused = publish(&addr, &["--confirm", "secret", "hello"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("does not permit to publish to this subject"), "{refused:?}");
    std::fs::remove_file(rules).unwrap();
}

#[test]
fn every_flag_is_in_the_help_and_the_key_in_the_environment_is_not() {
    let flags = |command: &str| {
        let output = kcpq().args([command, "--help"]).env("KCPQ_AES256_KEY_HEX", KEY).output().unwrap();
        assert!(output.status.success());
        assert!(!text(&output.stdout).contains(KEY), "the key is shown");
        text(&output.stdout).to_owned()
    };
    let of_clients = ["--server", "KCPQ_SERVER", "--timeout", "--parity", "--aes256-key-file", "KCPQ_AES256_KEY_HEX"];
    let of_serve = [
        "--listen",
        "--name",
        "--max-sessions",
        "--max-sessions-per-host",
        "--max-subscriptions",
        "--max-message",
        "--max-tokens",
        "--max-queued",
        "--max-queued-total",
        "--slow-consumer",
        "--idle-timeout",
        "--linger",
        "--aes256-key-file",
        "KCPQ_AES256_KEY_HEX",
        "--compat-parity",
        "--log-level",
        "--config",
        "KCPQ_CONFIG",
        "--check",
        "--open",
    ];
    let (publishes, subscribes, serves) = (flags("pub"), flags("sub"), flags("serve"));
    for flag in of_clients {
        assert!(publishes.contains(flag) && subscribes.contains(flag), "{flag}");
    }
    for flag in ["--count", "--wait", "--raw", "--lines", "--json"] {
        assert!(subscribes.contains(flag), "{flag}");
    }
    assert!(publishes.contains("--lane") && subscribes.contains("--lane"));
    for flag in of_serve {
        assert!(serves.contains(flag), "{flag}");
    }
    let all = kcpq().arg("--help").output().unwrap();
    for name in ["serve", "pub", "sub", "ping", "Exit codes"] {
        assert!(text(&all.stdout).contains(name), "{name}");
    }
}

#[test]
fn an_interrupt_is_a_regular_end_as_well() {
    let (server, addr) = serve(|_| {});
    let subscriber = subscribe(&addr, &["a"]);
    subscriber.interrupt();
    assert!(subscriber.wait(PATIENCE).status.success());
    server.interrupt();
    assert!(server.wait(PATIENCE).status.success());
}

#[test]
fn payloads_travel_as_they_are() {
    let (_server, addr) = serve(|_| {});
    let payload: Vec<u8> = (0..300_000_u32).map(|index| ((index * 7) >> 3) as u8).collect();
    let subscriber = subscribe(&addr, &["a", "--count", "2", "--raw"]);
    for part in [&payload[..], &[]] {
        let mut publisher = kcpq().args(["pub", "-s", &addr, "a"]).stdin(Stdio::piped()).spawn().unwrap();
        publisher.stdin.take().unwrap().write_all(part).unwrap();
        assert!(publisher.wait().unwrap().success());
    }
    let printed = subscriber.wait(PATIENCE).stdout;
    assert!(printed == payload, "{} bytes came", printed.len());
}

/// A path in the tests' folder at which nothing is.
fn fresh_path(name: &str) -> std::path::PathBuf {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[cfg(unix)]
#[test]
fn a_new_key_is_readable_by_its_owner_alone_and_no_key_is_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let path = fresh_path("new-key");
    let new = || kcpq().args(["key", "new"]).arg(&path).output().unwrap();
    let made = new();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let public: kcpq_core::seal::PublicKey = text(&made.stdout).trim_end().parse().unwrap();
    let kept = std::fs::read_to_string(&path).unwrap();
    let private: kcpq_core::seal::PrivateKey = kept.trim_end().parse().unwrap();
    assert_eq!(private.public(), public);
    assert_eq!(kept.lines().count(), 1);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!text(&made.stdout).contains(kept.trim_end()), "the private key is shown");

    let again = new();
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("exists; no key is overwritten"), "{}", text(&again.stderr));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);

    let show = || kcpq().args(["key", "public"]).arg(&path).output().unwrap();
    assert_eq!(text(&show().stdout), text(&made.stdout));
    for mode in [0o640, 0o604, 0o602] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = show();
        assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), ""));
        assert!(text(&refused.stderr).contains("chmod 600"), "{}", text(&refused.stderr));
    }
    std::fs::remove_file(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn what_is_no_private_key_is_called_by_its_name() {
    use std::os::unix::fs::PermissionsExt;
    let path = fresh_path("no-key");
    let public = kcpq_core::seal::PrivateKey::from_bytes(&[7; 32]).public().to_string();
    for (content, expected) in [
        (public.as_str(), "this is a public key, a private key is needed"),
        (KEY, "a private key begins with kcpq-private-"),
        ("", "a private key begins with kcpq-private-"),
    ] {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let refused = kcpq().args(["key", "public"]).arg(&path).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(expected), "{}", text(&refused.stderr));
        assert!(content.is_empty() || !text(&refused.stderr).contains(content));
    }
    std::fs::remove_file(&path).unwrap();
    let missing = kcpq().args(["key", "public", "no/such/file"]).output().unwrap();
    assert!(text(&missing.stderr).contains("cannot read no/such/file"), "{}", text(&missing.stderr));
    let nowhere = kcpq().args(["key", "new", "no/such/file"]).output().unwrap();
    assert!(text(&nowhere.stderr).contains("cannot create no/such/file"), "{}", text(&nowhere.stderr));
}

#[test]
fn a_key_file_that_cannot_be_used_is_named() {
    let missing =
        kcpq().args(["serve", "--listen", "127.0.0.1:0", "--aes256-key-file", "no/such/file"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("cannot read no/such/file"), "{}", text(&missing.stderr));
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bad-key-{}", std::process::id()));
    std::fs::write(&file, &KEY[1..]).unwrap();
    let short = kcpq().args(["pub", "a", "b", "--aes256-key-file"]).arg(&file).output().unwrap();
    assert_eq!(short.status.code(), Some(1));
    assert!(text(&short.stderr).contains(&format!("the key in {} cannot be used", file.display())));
    assert!(!text(&short.stderr).contains(&KEY[1..20]), "digits of the key were shown");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn raw_prints_payloads_alone_and_several_subjects_are_heard() {
    let (_server, addr) = serve(|_| {});
    let subscriber = subscribe(&addr, &["a.b", "c.>", "--count", "2", "--raw"]);
    assert!(publish(&addr, &["a.b", "one"]).status.success());
    assert!(publish(&addr, &["c.d.e", "two"]).status.success());
    assert_eq!(text(&subscriber.wait(PATIENCE).stdout), "onetwo");
}

#[test]
fn a_wait_that_is_over_too_early_has_an_exit_code_of_its_own() {
    let (_server, addr) = serve(|_| {});
    let output = subscribe(&addr, &["a", "--count", "1", "--wait", "200ms"]).wait(PATIENCE);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("timed out: 0 of 1 messages received"));
    assert_eq!(subscribe(&addr, &["a", "--wait", "200ms"]).wait(PATIENCE).status.code(), Some(0));
}

#[test]
fn a_stopping_server_is_told_to_its_subscribers_at_once() {
    let (server, addr) = serve(|_| {});
    let subscriber = subscribe(&addr, &["a"]);
    server.terminate();
    // It goes only when its sessions are gone, and does not wait for the idle timeout.
    assert!(server.wait(Duration::from_secs(10)).status.success());
    subscriber.terminate();
    assert!(subscriber.wait(PATIENCE).status.success());
}

#[test]
fn fifty_subscribers_of_a_killed_server_come_back_by_themselves() {
    const CLIENTS: usize = 50;
    let millis = Duration::from_millis;
    let builder = || {
        Client::builder()
            .timeout(PATIENCE)
            .heartbeat(Duration::from_millis(300))
            .connect_timeout(Duration::from_millis(500))
            .reconnect(Some(Backoff { base: millis(200), cap: millis(1_000) }))
    };
    let (server, addr) = serve(|_| {});
    smol::block_on(async {
        let mut clients = Vec::new();
        for index in 0..CLIENTS {
            let client = builder().connect(&addr).await.unwrap();
            let events = client.events();
            let own = client.subscribe(&format!("client.{index}")).await.unwrap();
            let all = client.subscribe("client.*").await.unwrap();
            clients.push((client, own, all, events));
        }
        // Dropping the guard is SIGKILL: nothing is said to anybody.
        drop(server);
        for (.., events) in &mut clients {
            let lost = async { while !matches!(events.next().await.unwrap(), Event::Disconnected { .. }) {} };
            soon("the loss", lost).await;
        }
        let mut server = Process::spawn(kcpq().args(["serve", "--listen", &addr]));
        assert_eq!(server.expect_line("listening on ", PATIENCE), addr);
        for (.., events) in &mut clients {
            let back = async { while !matches!(events.next().await.unwrap(), Event::Reconnected { native: true }) {} };
            soon("the return", back).await;
        }
        until("every subscription is acknowledged again", || {
            clients.iter().all(|(client, ..)| client.stats().client.active_subscriptions == 2)
        })
        .await;
        let publisher = builder().connect(&addr).await.unwrap();
        for index in 0..CLIENTS {
            publisher.publish(&format!("client.{index}"), index.to_string()).await.unwrap();
        }
        for (index, (client, own, all, _)) in clients.iter_mut().enumerate() {
            assert_eq!(soon("the own message", own.next()).await.unwrap().payload(), index.to_string().as_bytes());
            let mut heard = HashSet::new();
            for _ in 0..CLIENTS {
                heard.insert(soon("all messages", all.next()).await.unwrap().payload().to_vec());
            }
            assert_eq!(heard.len(), CLIENTS, "each once");
            assert_eq!((own.stats().received, all.stats().received), (1, CLIENTS as u64));
            assert_eq!(client.stats().client.reconnects, 1);
        }
    });
}

#[test]
fn errors_say_what_happened_with_which_value() {
    let (_server, addr) = serve(|_| {});
    let bad = publish(&addr, &["greet..x", "hello"]);
    assert_eq!((bad.status.code(), text(&bad.stderr)), (Some(1), "kcpq: invalid subject: empty token at byte 6\n"));
    let taken = kcpq().args(["serve", "--listen", &addr]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(taken.status.code(), Some(1));
    assert!(text(&taken.stderr).contains(&format!("cannot listen on {addr}: address already in use")));
    let usage = kcpq().args(["pub"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = socket.local_addr().unwrap().to_string();
    let silent = publish(&nobody, &["a", "b", "--timeout", "300ms"]);
    assert_eq!(silent.status.code(), Some(1));
    assert!(text(&silent.stderr).contains(&format!("no server answered at {nobody} within 300ms")));
    // Nobody listens on a port that was just given back, as the system says at once.
    drop(socket);
    for args in [&["pub", "a", "b"][..], &["sub", "a"], &["ping"], &["req", "a", "b"]] {
        let refused = Process::spawn(kcpq().args(args).args(["-s", &nobody, "--timeout", "1h"])).wait(PATIENCE);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(&format!("nobody listens at {nobody}: connection refused")), "{args:?}");
    }
}

#[test]
fn addresses_may_be_names_and_urls_and_the_port_is_4000_unless_given() {
    // A name to listen on, as a flag and in the environment; of its addresses the IPv4 one.
    let mut from_environment = kcpq();
    from_environment.arg("serve").env("KCP_NATS_ADDR", "localhost:0");
    let mut flag = kcpq();
    flag.args(["serve", "-l", "localhost:0"]);
    for mut command in [from_environment, flag] {
        let mut server = Process::spawn(&mut command);
        let addr = server.expect_line("listening on ", PATIENCE);
        let port = addr.strip_prefix("127.0.0.1:").unwrap();
        let subscriber = subscribe(&format!("kcpq://localhost:{port}/"), &["a", "--count", "1"]);
        assert!(publish(&format!("localhost:{port}"), &["a", "b"]).status.success());
        assert_eq!(text(&subscriber.wait(PATIENCE).stdout), "a: b\n");
    }
    // No such name: what is told has the port.
    let nowhere: [&[&str]; 4] = [
        &["serve", "-l", "nowhere.invalid"],
        &["pub", "-s", "kcpq://nowhere.invalid", "a", "b"],
        &["sub", "-s", "nowhere.invalid", "a"],
        &["bench", "pub", "-s", "nowhere.invalid"],
    ];
    for args in nowhere {
        let failed = Process::spawn(kcpq().args(args)).wait(PATIENCE);
        assert_eq!(failed.status.code(), Some(1), "{args:?}");
        assert!(text(&failed.stderr).contains("nowhere.invalid:4000"), "{args:?}: {}", text(&failed.stderr));
    }
    // Of several servers the first that answers: one is silent, one has no address.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (_server, addr) = serve(|_| {});
    let several = format!("{},nowhere.invalid,{addr}", silent.local_addr().unwrap());
    let subscriber = subscribe(&several, &["a", "--count", "1"]);
    assert!(publish(&several, &["a", "b", "--shuffle"]).status.success());
    assert_eq!(text(&subscriber.wait(PATIENCE).stdout), "a: b\n");
    for args in [["serve", "-l", "localhost:nats"], ["bench", "pub", "--server=tcp://localhost"]] {
        let usage = Process::spawn(kcpq().args(args)).wait(PATIENCE);
        assert_eq!(usage.status.code(), Some(2), "{}", text(&usage.stderr));
    }
}

#[test]
fn limits_that_let_nobody_in_are_refused_with_the_least_that_does() {
    let limits = [
        ("--max-sessions", "0", "1"),
        ("--max-sessions-per-host", "0", "1"),
        ("--max-subscriptions", "0", "1"),
        ("--max-tokens", "0", "1"),
        ("--max-message", "10", "285"),
        ("--max-message", "284", "285"),
        ("--idle-timeout", "999ms", "1s"),
    ];
    for (flag, bad, least) in limits {
        let refused = Process::spawn(kcpq().args(["serve", "--listen", "127.0.0.1:0", flag, bad])).wait(PATIENCE);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{flag} {bad}: {said}");
        assert!(said.contains(&format!("'{bad}' for '{flag}")), "{said}");
        assert!(said.contains(&format!("at least {least}")), "{said}");
    }
    let (_server, addr) = serve(|command| {
        for (flag, _, least) in limits.into_iter().filter(|(_, bad, _)| *bad != "284") {
            command.args([flag, least]);
        }
    });
    smol::block_on(async {
        // The longest name that a client can have makes the longest HELLO.
        let name = std::str::from_utf8(&[b'n'; 255]).unwrap();
        let client = Client::builder().name(name).heartbeat(Duration::from_millis(300)).connect(&addr).await.unwrap();
        let mut received = client.subscribe("a").await.unwrap();
        client.publish("a", "b").await.unwrap();
        assert_eq!(soon("the message", received.next()).await.unwrap().payload(), b"b");
    });
}

#[test]
fn a_key_is_taken_from_the_environment_or_a_file_and_never_shown() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("key-{}", std::process::id()));
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let (server, addr) = serve(|command| {
        command.env("KCPQ_AES256_KEY_HEX", KEY).args(["--log-level", "trace"]);
    });
    let subscriber =
        Process::spawn(kcpq().args(["sub", "-s", &addr, "a", "--count", "1", "--aes256-key-file"]).arg(&file));
    subscriber.expect_error_line("subscribed to ", PATIENCE);
    let published = kcpq().args(["pub", "-s", &addr, "a", "sealed"]).env("KCPQ_AES256_KEY_HEX", KEY).output().unwrap();
    assert!(published.status.success(), "{}", text(&published.stderr));
    assert_eq!(text(&subscriber.wait(PATIENCE).stdout), "a: sealed\n");
    // Another key, and none: silence.
    let other = KEY.replace("00", "ff");
    for key in [&other[..], ""] {
        let refused = kcpq()
            .args(["pub", "-s", &addr, "a", "b", "--timeout", "300ms"])
            .env("KCPQ_AES256_KEY_HEX", key)
            .output()
            .unwrap();
        assert!(text(&refused.stderr).contains("no server answered"));
    }
    let unreadable = kcpq().args(["pub", "a", "b"]).env("KCPQ_AES256_KEY_HEX", "0123").output().unwrap();
    assert!(text(&unreadable.stderr).contains("the key in KCPQ_AES256_KEY_HEX cannot be used"));
    server.terminate();
    let output = server.wait(PATIENCE);
    for said in [&output.stdout, &output.stderr, &unreadable.stderr] {
        assert!(!String::from_utf8_lossy(said).contains("0102030405"), "digits of the key were shown");
    }
    std::fs::remove_file(file).unwrap();
}
