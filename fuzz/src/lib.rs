//! The bodies of the fuzz targets, their seeds, and a replay of both that needs no fuzzer.
//!
//! A target is a module with two functions: `run(&[u8])`, which panics when the input shows a bug, and `seeds()`,
//! which makes the inputs that the search starts from. To add one: the module, a line in [`TARGETS`], a file in
//! `fuzz_targets/`, a `[[bin]]` in `Cargo.toml` and a row in README.md, which also says how to run, replay and minimise.
//!
//! When a bug is fixed, its input moves to `corpus/NAME/regression-WHAT` and is replayed by every test run.

pub mod broker;
pub mod client;
pub mod fec;
pub mod frame;
pub mod kcp;
pub mod kcp_dialogue;
pub mod seal_handshake;
pub mod seal_session;
pub mod seal_transport;
pub mod subject;

/// An input with a name for its file.
pub type Seed = (String, Vec<u8>);

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name in `cargo fuzz list`, and of the directory in `corpus/`.
    pub name: &'static str,
    /// Runs one input; panics when it shows a bug.
    pub run: fn(&[u8]),
    /// The inputs that the search starts from.
    pub seeds: fn() -> Vec<Seed>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "broker", run: broker::run, seeds: broker::seeds },
    Target { name: "client", run: client::run, seeds: client::seeds },
    Target { name: "fec", run: fec::run, seeds: fec::seeds },
    Target { name: "frame", run: frame::run, seeds: frame::seeds },
    Target { name: "kcp", run: kcp::run, seeds: kcp::seeds },
    Target { name: "kcp_dialogue", run: kcp_dialogue::run, seeds: kcp_dialogue::seeds },
    Target { name: "seal_handshake", run: seal_handshake::run, seeds: seal_handshake::seeds },
    Target { name: "seal_session", run: seal_session::run, seeds: seal_session::seeds },
    Target { name: "seal_transport", run: seal_transport::run, seeds: seal_transport::seeds },
    Target { name: "subject", run: subject::run, seeds: subject::seeds },
];

/// The program of a target: under cargo-fuzz the search, otherwise a run of the files named on the command line.
#[macro_export]
macro_rules! fuzz_target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$name::run(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            for path in std::env::args_os().skip(1) {
                $crate::$name::run(&std::fs::read(path)?);
            }
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn corpus(target: &Target) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
    }

    #[test]
    fn no_seed_and_no_beginning_of_one_shows_a_bug() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seed", target.name);
            for (_, bytes) in seeds {
                for end in 0..=bytes.len() {
                    (target.run)(&bytes[..end]);
                }
            }
        }
    }

    #[test]
    fn no_fixed_bug_is_back() {
        for target in TARGETS {
            let Ok(files) = fs::read_dir(corpus(target)) else { continue };
            for path in files.map(|file| file.unwrap().path()) {
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("regression-")) {
                    println!("{}", path.display());
                    (target.run)(&fs::read(path).unwrap());
                }
            }
        }
    }

    #[test]
    fn every_target_has_its_program_and_its_row_in_the_readme() {
        let manifest = include_str!("../Cargo.toml");
        for Target { name, .. } in TARGETS {
            assert!(
                manifest.contains(&format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
                "{name}"
            );
            assert!(include_str!("../README.md").contains(&format!("\n| `{name}` | ")), "{name}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }
}
