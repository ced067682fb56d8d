//! The link emulator: whole programs over an emulated link. Skipped, with a line that says so, where it cannot work
//! (without root, mostly) or where the program `kcpq` was not built (`cargo test -p kcpq-tools` alone does not).

#![cfg(target_os = "linux")]

// A part of it is used here.
#[allow(dead_code)]
#[path = "../../tests/support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use process::Process;

/// Far more than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The emulator's exit code where it cannot work.
const SKIPPED: i32 = 77;
/// Where the server listens, at the far end of the link.
const FAR: &str = "10.77.0.2:4000";

/// Runs `kcpq bench ARGS` against a server at the far end of a link with these flags; what it printed and what the link
/// carried, unless that has to be skipped.
fn bench(flags: &[&str], args: &[&str]) -> Option<(Value, Value)> {
    let kcpq = kcpq()?;
    let far = format!("{} serve --open -l {FAR} --log-level error", kcpq.display());
    run(flags, &far, Command::new("env").arg(&kcpq).args(["bench", "pubsub", "-s", FAR, "--json"]).args(args))
}

/// The program, if it was built. Cargo puts all programs into one folder.
fn kcpq() -> Option<PathBuf> {
    let kcpq = Path::new(env!("CARGO_BIN_EXE_link")).with_file_name("kcpq");
    if !kcpq.exists() {
        eprintln!("skipped: {} was not built", kcpq.display());
        return None;
    }
    Some(kcpq)
}

/// Runs a bench before such a link, and a shell's command behind it.
fn run(flags: &[&str], far: &str, near: &Command) -> Option<(Value, Value)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_link"));
    command.args(flags).args(["--far", far, "--"]).args(near.get_args());
    let output = Process::spawn(&mut command).wait(PATIENCE);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        eprintln!("{}", stderr.trim_end());
        return None;
    }
    assert!(output.status.success(), "{stderr}");
    // Among what else they have to say.
    let last_json = |text: &str| text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    let found = last_json(&String::from_utf8_lossy(&output.stdout)).expect("the bench tells what it found");
    Some((found, last_json(&stderr).expect("the link tells what it carried")))
}

/// From Wi-Fi to a cable: another address, and what is sent to the old one is lost, while the system goes on sending from it.
#[test]
fn a_stream_goes_on_when_the_clients_machine_gets_another_address() {
    let Some(kcpq) = kcpq() else { return };
    let kcpq = kcpq.display();
    let device = |peer: &str| format!("dev=$(ip -o route get {peer} | sed 's/.* dev \\([^ ]*\\).*/\\1/')");
    // The far end has to know the way back to it.
    let far = format!(
        "sh -c '{}; ip route add 10.77.0.0/24 dev $dev; exec {kcpq} serve --open -l {FAR} --log-level error'",
        device("10.77.0.1").replace('\'', "'\\''")
    );
    let near = format!(
        "set -e; {}; {kcpq} bench pubsub -s {FAR} --rate 100 --size 200 --count 400 --json & bench=$!; sleep 2; \
         ip addr add 10.77.0.9/24 dev $dev; ip addr del 10.77.0.1/32 peer 10.77.0.2/32 dev $dev; wait $bench",
        device("10.77.0.2")
    );
    let Some((found, _)) = run(&["--delay", "15ms"], &far, Command::new("env").args(["sh", "-c", &near])) else {
        return;
    };
    assert_eq!((&found["delivered"], &found["lost"]), (&400.into(), &0.into()), "{found}");
}

#[test]
fn large_messages_pass_a_path_that_silently_drops_long_packets() {
    // As narrow as IPv6 allows, and a WireGuard tunnel: the original's datagrams of 1400 bytes fit through neither.
    for mtu in ["1280", "1420"] {
        let args = ["--count", "50", "--size", "50000", "--rate", "50"];
        let Some((found, carried)) = bench(&["--delay", "5ms", "--path-mtu", mtu], &args) else { return };
        assert_eq!((&found["delivered"], &found["lost"]), (&50.into(), &0.into()), "{found}");
        // Nothing but the questions about longer datagrams was lost.
        let lost = carried["near_to_far"]["lost"].as_u64().unwrap();
        assert!((1..100).contains(&lost), "{carried}");
    }
}

/// Nobody is told of it: what is under way and too long for the path now goes again in pieces, over the same connection.
#[test]
fn a_stream_goes_on_when_its_path_silently_gets_narrower() {
    let flags = |narrow: &'static str| ["--delay", "15ms", "--path-mtu", "1480", "--narrow", narrow];
    for narrow in ["1308@3s", "1280@3s"] {
        let args = ["--count", "480", "--size", "8000", "--rate", "60"];
        let Some((found, carried)) = bench(&flags(narrow), &args) else { return };
        let counts = ["delivered", "lost", "repeated"].map(|name| found[name].as_u64());
        assert_eq!(counts, [Some(480), Some(0), Some(0)], "{found}");
        for way in ["near_to_far", "far_to_near"] {
            assert!(carried[way]["lost"].as_u64().unwrap() > 0, "it was the narrower path: {carried}");
        }
    }
}

#[test]
fn everything_passes_an_emulated_link_that_loses_one_packet_in_twenty() {
    let flags = ["--delay", "5ms", "--loss", "5", "--seed", "1"];
    let Some((found, carried)) = bench(&flags, &["--count", "100", "--rate", "100"]) else { return };
    assert_eq!((&found["delivered"], &found["lost"]), (&100.into(), &0.into()));
    // Nothing is faster than the link; how much slower it is depends on the machine.
    assert!(found["latency_us"]["p50"].as_f64().unwrap() >= 10_000.0, "{found}");
    for way in ["near_to_far", "far_to_near"] {
        let (packets, lost) = (carried[way]["packets"].as_u64().unwrap(), carried[way]["lost"].as_u64().unwrap());
        assert!(packets >= 100 && lost > 0 && lost < packets / 2, "{carried}");
        assert_eq!(carried[way]["error"], Value::Null);
    }
}
