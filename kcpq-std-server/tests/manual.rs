//! What is made of the command line: completions, man pages, and the version.

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use support::program::kcpq;

#[test]
fn every_command_has_a_page_that_man_reads() {
    let folder = std::env::temp_dir().join(format!("kcpq-man-{}", std::process::id()));
    assert!(kcpq().arg("man").arg(&folder).status().unwrap().success());
    let names: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for name in [
        "kcpq.1",
        "kcpq-serve.1",
        "kcpq-sub.1",
        "kcpq-top.1",
        "kcpq-check.1",
        "kcpq-bridge.1",
        "kcpq-key-new.1",
        "kcpq-bench-pubsub.1",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
    let groff = Command::new("groff").arg("--version").output().is_ok();
    for name in &names {
        let page = fs::read_to_string(folder.join(name)).unwrap();
        assert!(page.contains(".TH KCPQ") && page.contains(".SH \"EXIT STATUS\""), "{name}: {page}");
        if groff {
            let read =
                Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).arg(folder.join(name)).output().unwrap();
            assert!(read.status.success() && read.stderr.is_empty(), "{name}: {read:?}");
        }
    }
    fs::remove_dir_all(&folder).unwrap();
    let failed = kcpq().args(["man", "Cargo.toml"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("cannot write to Cargo.toml"));
}

#[test]
fn shells_get_completions_that_they_can_read() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = kcpq().args(["completions", shell]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("max-sessions"), "{shell}");
        // Those that are here say whether they understand it.
        let checks =
            Command::new(shell).args(["-n", "/dev/stdin"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        if shell == "bash"
            && let Ok(mut child) = checks
        {
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let said = child.wait_with_output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        }
    }
    assert_eq!(kcpq().args(["completions", "tcsh"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn the_version_names_the_commit_where_there_is_one() {
    let output = kcpq().arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rest = text.trim_end().strip_prefix(concat!("kcpq ", env!("CARGO_PKG_VERSION"))).expect(&text);
    let head = Command::new("git").args(["rev-parse", "HEAD"]).output().ok().filter(|output| output.status.success());
    match head {
        Some(head) => {
            let commit = rest.trim_start_matches(" (").trim_end_matches(')');
            assert!(commit.len() >= 7 && String::from_utf8_lossy(&head.stdout).starts_with(commit), "{text}");
        }
        None => assert_eq!(rest, ""),
    }
}
