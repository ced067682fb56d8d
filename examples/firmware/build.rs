//! Linker scripts for the QEMU machine.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    // Not called memory.x in the folder where the linker runs: it would be found there before the copy in OUT_DIR.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (from, to) in [("ld/memory-mps2.x", "memory.x"), ("ld/device.x", "device.x")] {
        fs::copy(from, out.join(to)).expect("OUT_DIR can be written to");
        println!("cargo:rerun-if-changed={from}");
    }
    println!("cargo:rustc-link-search={}", out.display());
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        println!("cargo:rustc-link-arg=-Tdefmt.x");
    }
}
