//! All firmware here is linked by `link.x`; esp-hal calls its own otherwise.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("link.x"), "INCLUDE linkall.x\n").expect("a file can be written to OUT_DIR");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-search={}", out.display());
}
