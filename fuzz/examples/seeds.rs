//! Writes the seeds of every target to `corpus/NAME/seed-LABEL`, where cargo-fuzz looks for them.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    for target in kcpq_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        for (label, bytes) in (target.seeds)() {
            fs::write(folder.join(format!("seed-{label}")), bytes)?;
        }
    }
    Ok(())
}
