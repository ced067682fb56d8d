//! Finds out which commit the program is built from, if it is built from a clone with git at hand; otherwise there is
//! none.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The library says nothing of that.
    if std::env::var_os("CARGO_FEATURE_CLI").is_none() {
        return;
    }
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match commit() {
        Some(commit) => {
            println!("cargo::rustc-env=KCPQ_COMMIT={commit}");
            println!("cargo::rustc-env=KCPQ_VERSION={version} ({commit})");
        }
        None => println!("cargo::rustc-env=KCPQ_VERSION={version}"),
    }
}

/// The commit that is checked out, if these sources are part of it: not so in a packed crate, wherever that lies.
fn commit() -> Option<String> {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
    git(&["ls-files", "--error-unmatch", manifest.to_str()?])?;
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        // One that is not there would be new each time.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// What git says, if there is one and it agrees.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
