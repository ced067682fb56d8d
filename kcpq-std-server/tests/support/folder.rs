//! A folder for files of a test.

use std::fs;
use std::path::PathBuf;

/// It goes with the test.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// One that nobody else has, with `name` in its name.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kcpq-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    /// Writes a file there.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file there");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
