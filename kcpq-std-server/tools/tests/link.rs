//! The link emulator: whole programs over an emulated link. Skipped, with a line that says so, where it cannot work
//! (without root, mostly) or where the program `kcpq` was not built (`cargo test -p kcpq-tools` alone does not).

#![cfg(target_os = "linux")]

// A part of it is used here.
#[allow(dead_code)]
#[path = "../../tests/support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

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

/// Processes with this in their command line.
fn running(marker: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(marker)).count()
}

#[track_caller]
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn no_process_of_the_far_end_is_left_however_the_link_ends() {
    let Some(kcpq) = kcpq() else { return };
    // Nobody else sleeps for so long.
    let marker = format!("31536000.{}", std::process::id());
    let serve = format!("{} serve --open -l {FAR} --log-level error", kcpq.display());
    // In the background, and as a child of a child.
    let far = format!("sleep {marker} & (sh -c 'sleep {marker} & wait' &) ; {serve}");
    let mut link = Command::new(env!("CARGO_BIN_EXE_link"));
    link.args(["--far", &far, "--"]);
    let output = Process::spawn(Command::new(link.get_program()).args(link.get_args()).arg("true")).wait(PATIENCE);
    if output.status.code() == Some(SKIPPED) {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_for("its end was that of all", || running(&marker) == 0);

    let mut killed = Process::spawn(link.args(["sh", "-c", "echo runs; sleep 3600"]));
    killed.expect_line("runs", PATIENCE);
    assert!(running(&marker) >= 2);
    drop(killed);
    wait_for("it was killed, and all with it", || running(&marker) == 0);
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
