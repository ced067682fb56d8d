//! Puts mutants into Rust sources: all that are wanted at once, each behind a switch, so that one build has them all.
//!
//! ```text
//! kcpq-mutator list FILE..      tells all there could be, a line each: number, file, line, function, what is changed
//! kcpq-mutator write FILE..     puts those in whose numbers it reads, and changes the files
//! ```
//!
//! Numbers are given in the order of the files, and of what stands in them. `a < b` becomes
//!
//! ```text
//! (if crate::mutant::is(17) { /*17(*/ (a) <= (b) /*)17*/ } else { (a) < (b) })
//! ```
//!
//! where the comments say which one it is that the compiler does not like. What is changed: operators, negations, what
//! functions return, guards of a match, and its arms, if there is one for all others. What is not: constants and what is
//! computed for them, what only tests or other builds have, what is written for people (`fmt`), and what is in macros.

mod find;
mod site;

use std::collections::HashSet;
use std::process::ExitCode;
use std::{env, fs, io};

use find::{Found, Wanted};

fn main() -> ExitCode {
    let mut words = env::args().skip(1);
    let done = match words.next().as_deref() {
        Some("list") => list(words),
        Some("write") => numbers().and_then(|numbers| write(words, numbers)),
        _ => Err("usage: kcpq-mutator list FILE.., or kcpq-mutator write FILE.. with numbers on its input".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn list(files: impl Iterator<Item = String>) -> Result<(), String> {
    let mut first = 0;
    for file in files {
        let (_, found) = look(&file, Wanted { first, numbers: None })?;
        for (number, mutant) in (first..).zip(&found.mutants) {
            println!("{number}\t{file}\t{}\t{}\t{}", mutant.line, mutant.function, mutant.what);
        }
        first += found.mutants.len();
    }
    Ok(())
}

fn write(files: impl Iterator<Item = String>, numbers: HashSet<usize>) -> Result<(), String> {
    let (mut first, mut numbers) = (0, Some(numbers));
    for file in files {
        let (source, found) = look(&file, Wanted { first, numbers: numbers.take() })?;
        let written = site::render(&source, &found.sites, 0..source.len());
        fs::write(&file, written).map_err(|error| format!("{file}: {error}"))?;
        first += found.mutants.len();
        numbers = found.wanted.numbers;
    }
    Ok(())
}

/// A file, and what there is in it.
fn look(file: &str, wanted: Wanted) -> Result<(String, Found), String> {
    let source = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let tree = syn::parse_file(&source).map_err(|error| format!("{file}: {error}"))?;
    let found = find::find(&source, &tree, wanted);
    Ok((source, found))
}

/// Those on the standard input.
fn numbers() -> Result<HashSet<usize>, String> {
    let text = io::read_to_string(io::stdin()).map_err(|error| error.to_string())?;
    text.split_whitespace().map(|word| word.parse().map_err(|error| format!("{word}: {error}"))).collect()
}
