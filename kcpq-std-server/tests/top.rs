//! `kcpq top`: once for pipes, and live in a terminal, which it gives back as it was.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use kcpq_smol::Client;
use serde_json::Value;
use support::port;
use support::process::Process;
use support::program::kcpq;
use support::wait::LIMIT;

/// A server with one client, and its port for HTTP.
fn serve() -> (Process, Client, String) {
    let mut command = kcpq();
    command.args(["serve", "-l", "127.0.0.1:0", "--register", "none", "--http", "0", "--name", "garden"]);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", LIMIT);
    let http = server.expect_line("monitoring on http://", LIMIT);
    // What would do something to a terminal.
    let client = Client::builder().name("thermo\u{1b}[2Jmeter").timeout(LIMIT).connect(addr.as_str());
    (server, smol::block_on(client).unwrap(), http)
}

fn top(args: &[&str]) -> Output {
    kcpq().arg("top").args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn without_a_terminal_it_prints_once() {
    let (_server, _client, http) = serve();
    for args in [&[&*http][..], &[&http, "--once", "--sort", "rtt"]] {
        let output = top(args);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(text.starts_with("garden ") && text.contains("thermo\\u{1b}[2Jmeter"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
    let json: Value = serde_json::from_slice(&top(&[&format!("http://{http}/"), "--json"]).stdout).unwrap();
    assert_eq!((&json["varz"]["server_name"], &json["connz"]["total"]), (&"garden".into(), &1.into()));
    // It looked twice, so there are rates.
    assert_eq!(json["connz"]["connections"][0]["out_msgs_rate"], 0.0);
}

#[test]
fn that_nobody_answers_is_said_in_words() {
    let port = port::free();
    let output = top(&[&port.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"), "{output:?}");
    assert_eq!(top(&["no/address"]).status.code(), Some(2));
    // One who takes the connection and says something else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    });
    let output = top(&[&addr]);
    other.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not what a kcpq server says"), "{output:?}");
}

/// Runs it in a terminal of its own, which `script` of util-linux makes, until `act` has ended it; gives all that it
/// wrote.
#[cfg(unix)]
fn in_a_terminal(http: &str, act: impl FnOnce(&mut std::process::ChildStdin, &str)) -> Option<(Output, String)> {
    if !Command::new("script").arg("--version").output().is_ok_and(|said| said.stdout.starts_with(b"script from util"))
    {
        eprintln!("skipped: there is no script of util-linux");
        return None;
    }
    let program = env!("CARGO_BIN_EXE_kcpq");
    // The shell becomes the program: its number stays.
    let line = format!("stty cols 100 rows 20; echo \"number $$ end\"; exec '{program}' top {http}");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut written, mut act) = (String::new(), Some(act));
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stdout.read(&mut buffer) {
        written += &String::from_utf8_lossy(&buffer[..count]);
        if written.contains("q quit")
            && let Some(act) = act.take()
        {
            let number = written.split("number ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
            act(&mut stdin, &number);
        }
    }
    Some((child.wait_with_output().unwrap(), written))
}

/// The sequences of xterm that enter the other screen and leave it.
#[cfg(unix)]
const SCREEN: [&str; 2] = ["\u{1b}[?1049h", "\u{1b}[?1049l"];

#[cfg(unix)]
#[test]
fn in_a_terminal_it_shows_sessions_until_a_key_ends_it() {
    let (_server, _client, http) = serve();
    let quit = |stdin: &mut std::process::ChildStdin, _: &str| stdin.write_all(b"sq").unwrap();
    let Some((output, written)) = in_a_terminal(&http, quit) else { return };
    assert!(output.status.success(), "{written:?}");
    assert!(written.contains("garden") && written.contains("thermo"), "{written:?}");
    let [enters, leaves] = SCREEN.map(|sequence| written.rfind(sequence));
    assert!(enters.is_some() && enters < leaves, "{written:?}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_and_gives_the_terminal_back() {
    let (_server, _client, http) = serve();
    let kill = |_: &mut std::process::ChildStdin, number: &str| {
        assert!(Command::new("kill").args(["-TERM", number]).status().unwrap().success());
    };
    let Some((output, written)) = in_a_terminal(&http, kill) else { return };
    assert!(output.status.success(), "{written:?}");
    assert!(written.rfind(SCREEN[0]) < written.rfind(SCREEN[1]), "{written:?}");
}
