//! Files that are replaced as a whole: whatever happens meanwhile, the old one or the new one is there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Puts a file with these bytes, which only its owner can read, in the place of the old one. With `sync` it is on the
/// disk before it takes that place.
///
/// # Errors
/// The system's. The old one is as it was, and of the new one nothing is left: on a full disk that would keep others from what
/// little there is.
pub(crate) fn replace(file: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = with_suffix(file, ".new");
    let replaced = write(&beside, bytes, sync).and_then(|()| fs::rename(&beside, file));
    if replaced.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&beside);
    }
    replaced
}

fn write(beside: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut new = options.open(beside)?;
    new.write_all(bytes)?;
    if sync {
        new.sync_all()?;
    }
    Ok(())
}

/// The same path, with something behind the name.
pub(crate) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    file.with_file_name(name)
}
