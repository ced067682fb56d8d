//! Puts the board's memory map where the linker looks for it, and finds the program of the radio.

use std::path::PathBuf;
use std::{env, fs};

const RADIO: [&str; 3] = ["43439A0.bin", "43439A0_clm.bin", "nvram_rp2040.bin"];

fn main() {
    let pico2 = env::var_os("CARGO_FEATURE_PICO2").is_some();
    let from = if pico2 { "../w5500-evb-pico/ld/pico2.x" } else { "../w5500-evb-pico/ld/pico.x" };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy(from, out.join("memory.x")).expect("the memory map can be copied");
    println!("cargo:rerun-if-changed={from}");
    println!("cargo:rustc-link-search={}", out.display());
    if !pico2 {
        println!("cargo:rustc-link-arg=-Tlink-rp.x");
    }

    println!("cargo:rerun-if-env-changed=CYW43_FIRMWARE");
    let folder = PathBuf::from(env::var_os("CYW43_FIRMWARE").unwrap_or_default());
    for file in RADIO {
        let path = folder.join(file);
        assert!(
            folder.is_absolute() && path.is_file(),
            "set CYW43_FIRMWARE to the path of the folder `cyw43-firmware` of embassy's repository, in full: \
             '{}' is not there",
            path.display()
        );
        println!("cargo:rerun-if-changed={}", path.display());
    }
}
