//! `kcpq serve` as an operator has it: logs that nobody reads, signals, limits of the system.

#![cfg(unix)]

mod support;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kcpq_smol::{Client, Event};
use support::port;
use support::process::Process;
use support::program::{kcpq, kcpq_after};
use support::wait::{soon, until};

const PATIENCE: Duration = Duration::from_secs(60);

fn serve(command: &mut Command) -> (Process, String) {
    serve_with(command, &[])
}

fn serve_with(command: &mut Command, args: &[&str]) -> (Process, String) {
    command.args(["serve", "-l", &port::free_addr().to_string()]).args(args).stdout(Stdio::piped());
    let mut server = Process::spawn_with_output(command);
    let addr = server.expect_line("listening on ", PATIENCE);
    (server, addr)
}

/// A message travels, and SIGTERM is a regular end.
fn serves_and_stops(server: Process, addr: &str) {
    exchange(addr);
    server.terminate();
    assert!(server.wait(PATIENCE).status.success(), "SIGTERM is a regular end");
}

fn exchange(addr: &str) {
    let subscriber = subscribe(addr, &["--count", "1"]);
    assert!(publishes(addr));
    assert_eq!(subscriber.wait(PATIENCE).stdout, b"a: b\n");
}

fn subscribe(addr: &str, args: &[&str]) -> Process {
    let process = Process::spawn(kcpq().args(["sub", "-s", addr, "a"]).args(args));
    process.expect_error_line("subscribed to ", PATIENCE);
    process
}

fn publishes(addr: &str) -> bool {
    kcpq().args(["pub", "-s", addr, "a", "b"]).stdin(Stdio::null()).output().unwrap().status.success()
}

/// The first datagram of an original client: a segment with one byte.
fn first_datagram(conversation: u32) -> Vec<u8> {
    const PUSH: u8 = 81;
    let mut datagram = conversation.to_le_bytes().to_vec();
    datagram.extend([PUSH, 0, 32, 0]);
    datagram.extend([0; 12]);
    datagram.extend(1_u32.to_le_bytes());
    datagram.push(0);
    datagram
}

// --- who supervises it ---

/// As systemd does it.
#[cfg(target_os = "linux")]
#[test]
fn a_supervisor_is_told_when_it_is_ready_works_and_stops() {
    use std::os::unix::net::UnixDatagram;

    let folder = std::env::temp_dir().join(format!("kcpq-notify-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 1024];
        let len = supervisor.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let mut command = kcpq();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    let (server, addr) = serve(&mut command);
    let ready = told();
    assert!(ready.contains("READY=1") && ready.contains(&format!("STATUS=listening on {addr}")), "{ready}");
    for _ in 0..3 {
        assert!(told().contains("WATCHDOG=1"));
    }
    server.terminate();
    while !told().contains("STOPPING=1") {}
    assert!(server.wait(PATIENCE).status.success());
    // One that lets its sessions go says how long that takes, and that it works meanwhile.
    let mut command = kcpq();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    let (server, addr) = serve_with(&mut command, &["--drain", "10m"]);
    let staying = [subscribe(&addr, &[]), subscribe(&addr, &[])];
    server.terminate();
    let stopping = loop {
        let said = told();
        if said.contains("STOPPING=1") {
            break said;
        }
    };
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=607000000"), "{stopping}");
    assert!(told().contains("WATCHDOG=1"));
    server.terminate();
    assert!(server.wait(PATIENCE).status.success());
    drop(staying);
    fs::remove_dir_all(&folder).unwrap();
}

// --- its end ---

#[test]
fn at_a_signal_clients_go_to_another_server_and_a_second_one_ends_it() {
    let (other, elsewhere) = serve(&mut kcpq());
    let args = ["--drain", "1h", "--successor", &elsewhere];
    let (server, addr) = serve_with(kcpq().stderr(Stdio::piped()), &args);
    // The second has half an hour before it has to go.
    let (first, second) = (subscribe(&addr, &["--count", "1"]), subscribe(&addr, &["--count", "1"]));
    server.terminate();
    server.expect_logged("letting sessions go", PATIENCE);
    server.terminate();
    assert!(server.wait(PATIENCE).status.success());
    for subscriber in [first, second] {
        subscriber.expect_error_line("connected again", PATIENCE);
        assert!(publishes(&elsewhere));
        assert_eq!(subscriber.wait(PATIENCE).stdout, b"a: b\n");
    }
    // With nobody left it does not wait.
    let (server, addr) = serve_with(&mut kcpq(), &args);
    assert!(publishes(&addr));
    serves_and_stops(server, &addr);
    drop(other);
}

#[test]
fn who_only_listens_is_told_when_a_killed_server_is_back() {
    // None of them would ask before an hour has passed.
    let hour = Duration::from_secs(3_600);
    let builder = || Client::builder().timeout(PATIENCE).heartbeat(hour).read_timeout(hour);
    let folder = std::env::temp_dir().join(format!("kcpq-told-{}", std::process::id()));
    let file = folder.join("register");
    let args = ["--shards", if cfg!(target_os = "linux") { "3" } else { "1" }, "--register", file.to_str().unwrap()];
    let (mut server, addr) = serve_with(&mut kcpq(), &[&args[..], &["-l", &port::free_addr().to_string()]].concat());
    let also = server.expect_line("listening on ", PATIENCE);
    smol::block_on(async {
        let mut clients = Vec::new();
        for index in 0..20 {
            let client = builder().connect(if index % 2 == 0 { &addr } else { &also }).await.unwrap();
            let (events, heard) = (client.events(), client.subscribe("a").await.unwrap());
            clients.push((client, events, heard));
        }
        let known = |file: &Path| fs::read_to_string(file).is_ok_and(|text| text.lines().count() == 2 + 20);
        until("the server keeps note of them", || known(&file)).await;
        // SIGKILL: nothing is said to anybody.
        drop(server);
        let mut server =
            Process::spawn(kcpq().args(["serve", "-l", &addr, "-l", &also]).args(args).stdout(Stdio::piped()));
        assert_eq!(server.expect_line("listening on ", PATIENCE), addr);
        for (_, events, _) in &mut clients {
            let back = async { while !matches!(events.next().await.unwrap(), Event::Reconnected { native: true }) {} };
            soon("the return", back).await;
        }
        assert!(publishes(&addr));
        for (_, _, heard) in &mut clients {
            assert_eq!(soon("the message", heard.next()).await.unwrap().payload(), b"b");
        }
    });
    fs::remove_dir_all(folder).unwrap();
}

// --- the log ---

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_costs_lines_of_the_log_only() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (server, addr) = serve(kcpq().stderr(full));
    serves_and_stops(server, &addr);
}

#[test]
fn a_log_whose_reader_has_gone_or_never_was_costs_nothing() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let (server, addr) = serve(kcpq().stderr(writer));
    serves_and_stops(server, &addr);

    let (server, addr) = serve(kcpq_after("exec 2>&-;").stderr(Stdio::null()));
    serves_and_stops(server, &addr);
}

#[test]
#[cfg(target_os = "linux")]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let (reader, mut writer) = io::pipe().unwrap();
    // As much as fits, so that the first line waits.
    writer.write_all(&[b'.'; 64 << 10]).unwrap();
    let (server, addr) = serve(kcpq().stderr(writer.try_clone().unwrap()));
    serves_and_stops(server, &addr);
    // Nor when there is something to say at the end.
    let mut failing = kcpq();
    failing.args(["serve", "-l", "nowhere.invalid"]).stderr(writer).stdout(Stdio::piped());
    assert_eq!(Process::spawn_with_output(&mut failing).wait(PATIENCE).status.code(), Some(1));
    drop(reader);
}

#[test]
fn a_flood_of_strangers_does_not_fill_the_log() {
    let (server, addr) = serve(kcpq().stderr(Stdio::piped()));
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for conversation in 1..=2_000 {
        stranger.send_to(&first_datagram(conversation), &addr).unwrap();
    }
    exchange(&addr);
    server.terminate();
    let said = String::from_utf8(server.wait(PATIENCE).stderr).unwrap();
    let opened = said.lines().filter(|line| line.contains("session opened")).count();
    assert!((100..=200).contains(&opened), "{opened} sessions were told of");
    assert!(said.len() < 64 << 10, "{} bytes of log", said.len());
}

#[test]
fn the_log_is_text_json_or_the_journals_and_says_as_much_as_is_asked_for() {
    let logged = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = kcpq();
        command.envs(env.iter().copied()).stderr(Stdio::piped());
        let (server, addr) = serve_with(&mut command, args);
        exchange(&addr);
        server.terminate();
        String::from_utf8(server.wait(PATIENCE).stderr).unwrap()
    };
    let json = logged(&["--log-format", "json"], &[]);
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let opened = lines.iter().find(|line| line["message"] == "session opened").unwrap();
    assert!(opened["level"] == "INFO" && opened["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{opened}");

    let journal = logged(&["--log-format", "journal"], &[("RUST_LOG", "kcpq_std_server=debug")]);
    assert!(journal.lines().all(|line| line.starts_with("<6>") || line.starts_with("<7>")), "{journal}");
    assert!(journal.contains("native client") && !journal.contains("stopping"), "by where lines are from: {journal}");
    // What is said on the command line wins, and standard error is no journal although there is one somewhere.
    let none = logged(&["--log-level", "off"], &[("RUST_LOG", "trace"), ("JOURNAL_STREAM", "1:2")]);
    assert_eq!(none, "");
    let text = logged(&[], &[("RUST_LOG", ""), ("JOURNAL_STREAM", "1:2")]);
    assert!(text.contains(" INFO ") && !text.contains("DEBUG") && !text.contains("<6>"), "{text}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_log_that_goes_to_the_journal_is_what_that_reads() {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    let (mut reader, writer) = io::pipe().unwrap();
    let own = fs::File::from(writer.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
    let mut command = kcpq();
    command.env("JOURNAL_STREAM", format!("{}:{}", own.dev(), own.ino())).stderr(writer);
    let (server, addr) = serve(&mut command);
    drop(command);
    serves_and_stops(server, &addr);
    let mut said = String::new();
    io::Read::read_to_string(&mut reader, &mut said).unwrap();
    assert!(said.lines().all(|line| line.starts_with("<6>")) && said.contains("session opened"), "{said}");
}

#[test]
fn who_does_not_want_to_know_the_address_is_served_all_the_same() {
    let addr = port::free_addr().to_string();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = kcpq();
    command.args(["serve", "-l", &addr]).stdout(writer).stderr(Stdio::piped());
    let server = Process::spawn_with_output(&mut command);
    server.expect_logged("listening", PATIENCE);
    serves_and_stops(server, &addr);
}

// --- signals ---

#[test]
fn signals_that_mean_something_else_do_not_end_it() {
    let (server, addr) = serve(kcpq().stderr(Stdio::piped()));
    for (signal, told) in [("-HUP", "SIGHUP"), ("-USR1", "signal=Usr1"), ("-USR2", "signal=Usr2")] {
        server.signal(signal);
        server.expect_logged(told, PATIENCE);
    }
    serves_and_stops(server, &addr);
}

#[test]
fn a_second_signal_does_not_wait_for_who_does_not_answer() {
    let (server, addr) = serve_with(kcpq().stderr(Stdio::piped()), &["--linger", "1h"]);
    let subscriber = subscribe(&addr, &[]);
    subscriber.signal("-STOP");
    assert!(publishes(&addr));
    server.terminate();
    server.expect_logged("stopping", PATIENCE);
    server.interrupt();
    let output = server.wait(PATIENCE);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.ends_with("kcpq: ended at once by a second signal\n"), "{said}");
}

// --- where it listens ---

/// A shell script that starts the server, `$1` is where it listens, and publishes at each of the other addresses, in a
/// network of its own with a link-local address.
#[cfg(target_os = "linux")]
const PUBLISH_AT_EACH: &str = r#"
    ip link set lo up && ip -6 addr add fe80::7/64 dev lo nodad || exit 77
    listen=$1 && shift
    sh -c 'echo $$ && exec "$0" serve --open -l "$1" 2>/dev/null' "$0" "$listen" | {
        read -r server && read -r listening && echo "$listening"
        for addr in "$@"; do "$0" pub -s "$addr" a b && echo "published at $addr"; done
        kill "$server"
    }
"#;

#[test]
#[cfg(target_os = "linux")]
fn link_local_addresses_name_their_interface() {
    for (listen, asked) in [
        ("[fe80::7%lo]:4000", ["[fe80::7%lo]:4000", "kcpq://[fe80::7%1]"]),
        ("[::]:4000", ["[fe80::7%lo]:4000", "127.0.0.2:4000"]),
    ] {
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", PUBLISH_AT_EACH, env!("CARGO_BIN_EXE_kcpq"), listen]).args(asked);
        let output = Process::spawn(&mut command).wait(PATIENCE);
        let (printed, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        if printed.is_empty() && !output.status.success() {
            println!("skipped: no network namespaces here: {said}");
            return;
        }
        let published: String = asked.map(|addr| format!("published at {addr}\n")).concat();
        assert!(printed.starts_with("listening on [") && printed.ends_with(&published), "{printed}{said}");
    }
}

/// A shell script that lets a message of 20 kB travel within a machine whose loopback device carries less than is usual.
#[cfg(target_os = "linux")]
const LONG_MESSAGE: &str = r#"
    ip link set lo up mtu 1500 || exit 77
    sh -c 'echo $$ && exec "$0" serve -l 127.0.0.1:4000 2>/dev/null' "$0" | {
        read -r server && read -r listening && echo "$listening"
        "$0" sub a --count 1 --wait 30s 2>/dev/null | { read -r said; echo "${#said} bytes came"; } &
        sub=$!
        # Until somebody has subscribed nobody hears it; the shell cannot wait for a line of standard error.
        while kill -0 "$sub" 2>/dev/null; do head -c 20000 /dev/zero | tr '\0' x | "$0" pub a || break; done
        wait "$sub"
        kill "$server"
    }
"#;

#[test]
#[cfg(target_os = "linux")]
fn a_loopback_device_that_carries_less_than_is_usual_carries_long_messages_in_pieces() {
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", LONG_MESSAGE, env!("CARGO_BIN_EXE_kcpq")]);
    let output = Process::spawn(&mut command).wait(PATIENCE);
    let (printed, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if printed.is_empty() && !output.status.success() {
        println!("skipped: no network namespaces here: {said}");
        return;
    }
    assert_eq!(printed, "listening on 127.0.0.1:4000\n20003 bytes came\n", "{said}");
}

// --- what the system and its files are like ---

#[test]
fn too_few_descriptors_are_an_error_with_the_number_that_is_needed() {
    for limit in [8, 16, 24] {
        let mut command = kcpq_after(&format!("ulimit -n {limit};"));
        let output = Process::spawn(command.args(["serve", "-l", "127.0.0.1:0"])).wait(PATIENCE);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{limit}: {said}");
        assert!(said.starts_with("kcpq: cannot open the 28 files that a server needs (see ulimit -n): "), "{said}");
    }
    let (server, addr) = serve(kcpq_after("ulimit -n 40;").stderr(Stdio::piped()));
    serves_and_stops(server, &addr);
}

#[test]
fn a_key_file_without_end_is_not_read_to_its_end() {
    let endless = Process::spawn(kcpq().args(["serve", "--aes256-key-file", "/dev/zero"])).wait(PATIENCE);
    let said = String::from_utf8(endless.stderr).unwrap();
    assert_eq!(endless.status.code(), Some(1), "{said}");
    assert!(said.contains("the key in /dev/zero cannot be used"), "{said}");
}
