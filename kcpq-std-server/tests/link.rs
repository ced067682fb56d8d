//! The link emulator: whole programs over an emulated link. Skipped, with a line that says so, where it cannot work
//! (without root, mostly) or was not built (`cargo test --test link` alone builds no examples).

#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::process::Process;

// Cargo runs no unit tests of an example: they run here.
#[allow(dead_code, unused_qualifications)]
#[path = "../examples/link/forwarder.rs"]
mod forwarder;
#[allow(dead_code)]
#[path = "../examples/link/options.rs"]
mod options;

/// Far more than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The emulator's exit code where it cannot work.
const SKIPPED: i32 = 77;

/// Where cargo puts it, beside the program.
fn emulator() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_kcpq")).with_file_name("examples").join("link")
}

/// Runs the emulator; what the program printed and what the link carried, unless it has to be skipped.
fn link(flags: &[&str], far: &str, program: &[&str]) -> Option<(String, Value)> {
    let emulator = emulator();
    if !emulator.exists() {
        eprintln!("skipped: {} was not built", emulator.display());
        return None;
    }
    let mut command = Command::new(emulator);
    let output = Process::spawn(command.args(flags).args(["--far", far, "--"]).args(program)).wait(PATIENCE);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        eprintln!("{}", stderr.trim_end());
        return None;
    }
    assert!(output.status.success(), "{stderr}");
    let carried = stderr.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), carried.expect("it tells what it carried")))
}

#[test]
fn large_messages_pass_a_path_that_silently_drops_long_packets() {
    let kcpq = env!("CARGO_BIN_EXE_kcpq");
    let far = format!("{kcpq} serve -l 10.77.0.2:4000 --log-level error");
    let bench =
        ["bench", "pubsub", "-s", "10.77.0.2:4000", "--count", "50", "--size", "50000", "--rate", "50", "--json"];
    let program: Vec<&str> = [kcpq].into_iter().chain(bench).collect();
    // As narrow as IPv6 allows, and a WireGuard tunnel: the original's datagrams of 1400 bytes fit through neither.
    for mtu in ["1280", "1420"] {
        let flags = ["--delay", "5ms", "--path-mtu", mtu];
        let Some((printed, carried)) = link(&flags, &far, &program) else { return };
        let found: Value = printed.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap();
        assert_eq!((&found["delivered"], &found["lost"]), (&50.into(), &0.into()), "{found}");
        // Nothing but the questions about longer datagrams was lost.
        let lost = carried["near_to_far"]["lost"].as_u64().unwrap();
        assert!((1..100).contains(&lost), "{carried}");
    }
}

#[test]
fn everything_passes_an_emulated_link_that_loses_one_packet_in_twenty() {
    let kcpq = env!("CARGO_BIN_EXE_kcpq");
    let far = format!("{kcpq} serve -l 10.77.0.2:4000 --log-level error");
    let bench = ["bench", "pubsub", "-s", "10.77.0.2:4000", "--count", "100", "--rate", "100", "--json"];
    let program: Vec<&str> = [kcpq].into_iter().chain(bench).collect();
    let Some((printed, carried)) = link(&["--delay", "5ms", "--loss", "5", "--seed", "1"], &far, &program) else {
        return;
    };
    let found: Value = printed.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap();
    assert_eq!((&found["delivered"], &found["lost"]), (&100.into(), &0.into()));
    // Nothing is faster than the link; how much slower it is depends on the machine.
    assert!(found["latency_us"]["p50"].as_f64().unwrap() >= 10_000.0, "{found}");
    for way in ["near_to_far", "far_to_near"] {
        let (packets, lost) = (carried[way]["packets"].as_u64().unwrap(), carried[way]["lost"].as_u64().unwrap());
        assert!(packets >= 100 && lost > 0 && lost < packets / 2, "{carried}");
        assert_eq!(carried[way]["error"], Value::Null);
    }
}
