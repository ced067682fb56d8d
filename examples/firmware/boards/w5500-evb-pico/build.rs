//! Puts the board's memory map where the linker looks for it.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let pico2 = env::var_os("CARGO_FEATURE_PICO2").is_some();
    let from = if pico2 { "ld/pico2.x" } else { "ld/pico.x" };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy(from, out.join("memory.x")).expect("the memory map can be copied");
    println!("cargo:rerun-if-changed={from}");
    println!("cargo:rustc-link-search={}", out.display());
    if !pico2 {
        println!("cargo:rustc-link-arg=-Tlink-rp.x");
    }
}
