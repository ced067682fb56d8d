//! `kcpq check`: what does not work is told apart, with what to do about it.

mod support;

use std::net::UdpSocket;
use std::process::Stdio;

use serde_json::Value;
use support::process::Process;
use support::program::kcpq;
use support::wait::LIMIT;

/// The exit code, and each check by its name with its grade, text and advice.
fn check(args: &[&str]) -> (Option<i32>, Value) {
    let output = kcpq().args(["check", "--json"]).args(args).stdin(Stdio::null()).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(json["ok"], output.status.success());
    (output.status.code(), json)
}

fn of<'j>(json: &'j Value, name: &str) -> &'j Value {
    json["checks"].as_array().unwrap().iter().find(|check| check["check"] == name).unwrap_or(&Value::Null)
}

#[test]
fn of_a_server_that_works_all_is_well() {
    let mut command = kcpq();
    command.args(["serve", "-l", "127.0.0.1:0", "--register", "none", "--http", "0"]);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", LIMIT);
    let http = server.expect_line("monitoring on http://", LIMIT);
    let (code, json) = check(&["-s", &addr, "--http", &http]);
    assert_eq!(code, Some(0), "{json:#}");
    for name in ["server", "round trip", "path", "monitoring", "clock", "drops"] {
        assert_ne!(of(&json, name)["grade"], "broken", "{json:#}");
        assert!(of(&json, name)["text"].is_string(), "{name}: {json:#}");
    }
    assert!(of(&json, "socket buffers")["text"].as_str().unwrap().contains("for receiving"));
    let text = kcpq().args(["check", "-s", &addr]).output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("native protocol"), "{text:?}");
}

#[test]
fn a_port_where_nobody_listens_is_told_from_one_that_says_nothing() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let (code, json) = check(&["-s", &addr, "--timeout", "300ms"]);
    assert_eq!(code, Some(1));
    let server = of(&json, "server");
    assert!(server["text"].as_str().unwrap().starts_with("sent, and nothing heard"), "{json:#}");
    assert!(server["advice"][0].as_str().unwrap().contains("firewall"));
    drop(silent);
    let (code, json) = check(&["-s", &addr, "--timeout", "300ms"]);
    assert_eq!(code, Some(1));
    let said = of(&json, "server")["text"].as_str().unwrap();
    // Only some systems tell.
    assert!(said.contains("nobody listens") || !cfg!(target_os = "linux"), "{said}");
}

#[test]
fn without_a_server_the_configuration_is_judged_alone() {
    let (code, json) = check(&["--offline", "--config", "../examples/kcpq.toml"]);
    assert_eq!((code, &of(&json, "configuration")["grade"]), (Some(0), &"ok".into()), "{json:#}");
    assert_eq!(of(&json, "server"), &Value::Null);
    let (code, json) = check(&["--offline", "--config", "Cargo.toml"]);
    assert_eq!((code, &of(&json, "configuration")["grade"]), (Some(1), &"broken".into()));
    assert!(of(&json, "configuration")["text"].as_str().unwrap().contains("unknown key"), "{json:#}");
    assert_eq!(kcpq().args(["check", "--http", "no/address"]).output().unwrap().status.code(), Some(2));
}
