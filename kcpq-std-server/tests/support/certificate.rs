//! A certificate that somebody on this machine has made for itself.

use std::path::PathBuf;
use std::process::Command;

use super::folder::Folder;

/// One for 127.0.0.1 and its key, in PEM; `None` with a line that says so if there is nothing to make it with.
pub(crate) fn make(folder: &Folder) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (folder.0.join("cert.pem"), folder.0.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("skipped: no openssl to make a certificate with");
        return None;
    }
    Some((cert, key))
}
