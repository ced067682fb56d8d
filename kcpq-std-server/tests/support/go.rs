//! Builds programs in Go that share no code with ours: the Go peer (`tests/go-peer`), the other end of the original's protocol, and a
//! client of NATS with the library that programs use (`tests/nats-peer`).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where Debian puts Go libraries.
const DEBIAN_GOPATH: &str = "/usr/share/gocode";

/// A program, once it was built; or what is missing for it.
type Built = OnceLock<Result<PathBuf, String>>;

/// The Go peer, built once per test process; `None`, after a line that says so, where Go or a library is missing.
///
/// # Panics
///
/// If something is missing although `KCPQ_REQUIRE_GO=1` asks for it, and if the peer does not compile.
pub(crate) fn peer() -> Option<PathBuf> {
    static PEER: Built = OnceLock::new();
    program(&PEER, "go-peer", "golang-github-xtaci-kcp-dev")
}

/// The same of the client of NATS.
///
/// # Panics
///
/// Likewise.
pub(crate) fn nats_peer() -> Option<PathBuf> {
    static PEER: Built = OnceLock::new();
    program(&PEER, "nats-peer", "golang-github-nats-io-go-nats-dev")
}

fn program(built: &Built, name: &str, package: &str) -> Option<PathBuf> {
    match built.get_or_init(|| build(name)) {
        Ok(path) => Some(path.clone()),
        Err(missing) => {
            let message =
                format!("{name} needs {missing} (apt-get install --no-install-recommends golang-go {package})");
            assert!(std::env::var_os("KCPQ_REQUIRE_GO").is_none_or(|value| value != "1"), "{message}");
            println!("skipped: {message}");
            None
        }
    }
}

/// The error says what is missing.
fn build(name: &str) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = directory.join(format!("kcpq-{name}{}", std::env::consts::EXE_SUFFIX));
    // Test processes may build at the same time: each to a name of its own, then into place in one step.
    let fresh = directory.join(format!("kcpq-{name}.{}", std::process::id()));
    let gopath = match std::env::var("GOPATH") {
        Ok(own) => format!("{DEBIAN_GOPATH}:{own}"),
        Err(_) => DEBIAN_GOPATH.to_owned(),
    };
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([fresh.as_path(), Path::new(".")])
        .current_dir(source)
        .env("GO111MODULE", "off")
        .env("GOPATH", gopath)
        .env_remove("GOFLAGS")
        .output();
    let output = match built {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err("Go".to_owned()),
        Err(error) => panic!("go build does not start: {error}"),
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let missing = missing_packages(&stderr);
        assert!(!missing.is_empty(), "{name} does not compile:\n{stderr}");
        return Err(missing);
    }
    std::fs::rename(&fresh, &program).expect("the program moves within its directory");
    Ok(program)
}

/// The packages that `go build` did not find, from lines such as `x.go:8:2: cannot find package "a/b" in any of:`.
fn missing_packages(stderr: &str) -> String {
    let name = |line: &str| Some(line.split_once("cannot find package \"")?.1.split_once('"')?.0.to_owned());
    let mut names: Vec<String> = stderr.lines().filter_map(name).collect();
    names.dedup();
    names.join(", ")
}

/// The message of this number as the Go peer makes and checks it: sequence, CRC-32 of the filler, filler (its README).
pub(crate) fn message(sequence: u64, len: usize) -> Vec<u8> {
    let mut state = sequence;
    let filler: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(len - 12)
    .collect();
    let crc = !filler.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    [&sequence.to_be_bytes()[..], &crc.to_be_bytes(), &filler].concat()
}
