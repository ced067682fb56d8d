//! Runs a block of shell commands as a reader would, in as many shells as it takes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::support::process::Process;

/// Far more than any block takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// In place of `kcpq`: what a reader lets run in a shell of its own goes on in the background, as soon as it is ready.
const KCPQ: &str = r#"#!/bin/sh
case " $* " in *" --check "* | *" --help "*) exec "$KCPQ" "$@" ;; esac
case $1 in
    serve) ready='listening on ' ;;
    sub) ready='subscribed to ' ;;
    reply) ready='answering ' ;;
    bench)
        # A reader has more time.
        for argument; do
            shift
            [ "$argument" = 10m ] && argument=1s
            set -- "$@" "$argument"
        done
        exec "$KCPQ" "$@"
        ;;
    *) exec "$KCPQ" "$@" ;;
esac
log=$(mktemp "$WORK/log.XXXXXX")
if [ "$1" = serve ]; then
    "$KCPQ" "$@" >"$log" 2>&1 &
else
    "$KCPQ" "$@" 2>"$log" &
fi
process=$!
echo "$process" >>"$WORK/processes"
until grep -q "^$ready" "$log"; do
    kill -0 "$process" 2>/dev/null || { cat "$log" >&2 && exit 1; }
    sleep 0.02
done
"#;

/// In place of `cargo`: the program is built already, and `.ci/run examples` runs the examples.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
    "install --path "*) test -f "$REPOSITORY/$3/Cargo.toml" ;;
    "run -- "*) shift 2 && exec kcpq "$@" ;;
    "run -p kcpq-examples --example "*) grep -qx "name = \"$5\"" "$REPOSITORY/examples/Cargo.toml" ;;
    *) echo "nobody has said what 'cargo $*' is here" >&2 && exit 1 ;;
esac
"#;

/// What stands before the commands and behind them.
const BEGIN: &str = r#"set -eu
ip link set lo up 2>/dev/null || true
end() {
    status=$?
    while read -r process; do kill "$process" 2>/dev/null || true; done <"$WORK/processes"
    if [ "$status" -ne 0 ]; then cat "$WORK"/log.* >&2; fi
}
trap end EXIT
# Until it has been printed, by whichever of the programs.
printed() {
    tries=0
    until cat "$WORK/output" "$WORK"/log.* | grep -qF -- "$1"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 1500 ]; then echo "never printed: $1" >&2 && exit 1; fi
        sleep 0.02
    done
}
"#;

/// Runs the block in this folder. Without a server of its own it gets one. The error is what was printed.
pub(crate) fn run(repository: &Path, folder: &Path, block: &str) -> Result<(), String> {
    let work = folder.join(".work");
    let _ = fs::remove_dir_all(&work);
    let bin = work.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for (name, text) in [("kcpq", KCPQ), ("cargo", CARGO)] {
        let program = bin.join(name);
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for file in ["processes", "output", "log.0"] {
        fs::write(work.join(file), "").unwrap();
    }

    let mut script = BEGIN.to_owned();
    let serves = |line: &str| {
        line.starts_with("kcpq serve") && !line.contains("--check") || line.starts_with("cargo run -- serve")
    };
    if block.contains("kcpq ") && !block.lines().any(serves) {
        script += "kcpq serve\n";
    }
    script += &format!("{{\n{block}\n}} >>\"$WORK/output\"\n");
    for expected in block.lines().filter_map(|line| line.split_once("# -> ")) {
        script += &format!("printed '{}'\n", expected.1.trim());
    }

    let mut command = Command::new(isolation()[0]);
    command.args(&isolation()[1..]).args(["sh", "-c", &script]).current_dir(folder);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}:/usr/sbin", bin.display()));
    command.env("KCPQ", env!("CARGO_BIN_EXE_kcpq")).env("REPOSITORY", repository).env("WORK", &work);
    command.env("HOME", folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KCPQ_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    let output = Process::spawn(&mut command).wait(PATIENCE);
    if output.status.success() {
        return Ok(());
    }
    let printed = fs::read_to_string(work.join("output")).unwrap_or_default();
    Err(format!("{printed}{}", String::from_utf8_lossy(&output.stderr)))
}

/// What gives a command a network and processes of its own, where the system lets us; otherwise ports have to be free.
fn isolation() -> &'static [&'static str] {
    const WAYS: [&[&str]; 2] = [
        &["unshare", "--net", "--pid", "--fork", "--kill-child"],
        &["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"],
    ];
    static WAY: OnceLock<&[&str]> = OnceLock::new();
    WAY.get_or_init(|| {
        let works = |way: &&&[&str]| {
            let mut command = Command::new(way[0]);
            command.args(&way[1..]).args(["sh", "-c", "PATH=$PATH:/usr/sbin ip link set lo up"]);
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        WAYS.iter().find(works).copied().unwrap_or(&["env"])
    })
}
