//! The modules of the core depend on each other in one direction. This reads the sources and says which edge points up.

use std::fs;
use std::path::{Path, PathBuf};

/// From bottom to top. A module may use those of the rows below its own, and none of its own row.
const ROWS: &[&[&str]] = &[
    &["time", "rng", "field", "hash", "header", "histogram", "lane"],
    &["store"],
    &["subject", "replay"],
    &["frame", "kcp"],
    &["outbox", "hello", "puback", "fec", "cipher", "seal"],
    &["datagram"],
    &["session"],
    &["router"],
    &["access"],
    &["client", "broker"],
];

/// What only tests use, and so may use anything.
const TOOLS: &[&str] = &["sim"];

/// The row of a module.
fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|names| names.contains(&module))
}

#[test]
fn no_module_uses_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let reexports = reexports(&fs::read_to_string(root.join("lib.rs")).unwrap());
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let path = module_path(file.strip_prefix(&root).unwrap());
        let Some(module) = path.first() else { continue }; // lib.rs, the table of contents
        if TOOLS.contains(&module.as_str()) || path.iter().any(|part| part == "tests") {
            continue;
        }
        let text = production_code(&fs::read_to_string(&file).unwrap());
        for name in used_names(&text, path.len()) {
            // `crate::Instant` is what lib.rs re-exports from `time`.
            let used = reexports.iter().find(|(item, _)| *item == name).map_or(&name, |(_, from)| from);
            if used == module {
                continue;
            }
            match (row(module), row(used)) {
                (Some(user), Some(usee)) if usee < user => {}
                (Some(_), Some(_)) => wrong.push(format!("{}: {module} uses {used}", file.display())),
                _ => wrong.push(format!("{}: {module} or {used} has no row in the table", file.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "edges that do not point down:\n{}", wrong.join("\n"));
}

/// Every `.rs` file below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

/// `kcp/window.rs` is `["kcp", "window"]`, `kcp/mod.rs` is `["kcp"]`, `lib.rs` is empty.
fn module_path(file: &Path) -> Vec<String> {
    let parts = file.with_extension("");
    let names = parts.iter().map(|part| part.to_str().unwrap().to_owned());
    names.filter(|name| name != "mod" && name != "lib").collect()
}

/// The text without line comments and without an inline test module, which stands last in its file.
fn production_code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The first names behind `crate::`, or behind as many `super::` as lead from a module of this depth to the root.
fn used_names(text: &str, depth: usize) -> Vec<String> {
    let up = "super::".repeat(depth);
    let paths = text.split("crate::").skip(1).chain(text.split(&up).skip(1));
    paths.flat_map(first_names).collect()
}

/// `kcp::Kcp` gives `kcp`; `{kcp::{A, B}, time::C}` gives `kcp` and `time`.
fn first_names(path: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut start) = (1, Vec::new(), 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && character == ',') {
            names.push(name(&group[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The `pub use module::{Item, …}` of lib.rs as pairs of item and module.
fn reexports(lib: &str) -> Vec<(String, String)> {
    let code = production_code(lib);
    let uses = code.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next()?.split_once("::"));
    uses.flat_map(|(module, items)| first_names(items).into_iter().map(|item| (item, module.trim().to_owned())))
        .collect()
}

#[test]
fn the_reader_of_use_lines_sees_groups_paths_and_supers() {
    let text = "use crate::{\n    kcp::{Kcp, Config},\n    time::Instant,\n};\nlet x = crate::store::Heap::new();";
    assert_eq!(used_names(text, 1), ["kcp", "time", "store"]);
    assert_eq!(used_names("use super::window::Window;", 1), ["window"]);
    assert_eq!(used_names("use super::super::router::Router;", 2), ["router"]);
    assert_eq!(used_names("use super::sibling::Item;", 2), [""; 0]);
    let lib = "pub mod time;\npub use time::{Duration, Instant};\npub use kcp::Kcp;";
    let pairs = [("Duration", "time"), ("Instant", "time"), ("Kcp", "kcp")];
    assert_eq!(reexports(lib), pairs.map(|(item, module)| (item.to_owned(), module.to_owned())));
}
