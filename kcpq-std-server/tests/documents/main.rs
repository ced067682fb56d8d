//! What README.md and the book tell readers to type works, and the Chinese ones tell them the same.
//!
//! A block of shell commands is run as it stands, in a folder for each document and, where the system has such, in a network
//! of its own, so that ports are free. One that must not be run says why, in a comment above it: `<!-- not run: REASON -->`.
//! What has to be printed stands behind `# ->` in a comment of the block.

#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod document;
mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use document::Document;
use support::folder::Folder;
use support::program::kcpq;

const ENGLISH: &str = "docs/book/en";
const CHINESE: &str = "docs/book/zh";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// README.md and all chapters in this language, by their paths from the repository's root.
fn documents(readme: &str, book: &str) -> Vec<Document> {
    let mut paths: Vec<String> = fs::read_dir(repository().join(book))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("{book}/{name}"))
        .collect();
    paths.sort();
    assert!(paths.len() > 5, "{book} has no chapters");
    paths.insert(0, readme.to_owned());
    paths.into_iter().map(|path| Document::read(&repository(), path)).collect()
}

fn english() -> Vec<Document> {
    documents("README.md", ENGLISH)
}

#[test]
fn commands_do_what_they_say() {
    let mut wrong = String::new();
    let mut run = 0;
    for document in english() {
        let folder = Folder::new(&document.path.replace('/', "-"));
        for block in document.blocks("sh") {
            match &block.not_run {
                Some(why) => println!("{}:{}: not run: {why}", document.path, block.line),
                None => {
                    run += 1;
                    if let Err(error) = shell::run(&repository(), &folder.0, &block.text) {
                        let _ = writeln!(wrong, "{}:{}:\n{}{error}\n", document.path, block.line, block.text);
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(run > 20, "only {run} blocks were found");
}

/// Or the test above would find nothing.
#[test]
fn commands_that_fail_are_told() {
    let folder = Folder::new("failing");
    for block in
        ["kcpq pub 'not..valid' x\nkcpq pub valid x", "kcpq sub 'not..valid'", "kcpq serve -l 192.0.2.1", "cargo hello"]
    {
        assert!(shell::run(&repository(), &folder.0, block).is_err(), "{block}");
    }
}

#[test]
fn configurations_are_taken() {
    let folder = Folder::new("configurations");
    for document in english() {
        for block in document.blocks("toml").filter(|block| block.not_run.is_none()) {
            if block.text.starts_with("[dependencies]") {
                continue;
            }
            let file = folder.0.join("kcpq.toml");
            fs::write(&file, &block.text).unwrap();
            let output = kcpq().args(["serve", "--check", "--config"]).arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}:{}: {said}", document.path, block.line);
        }
    }
}

/// Snippets are compiled by rustdoc, as documentation of the examples' package.
#[test]
fn snippets_are_compiled() {
    let compiled = fs::read_to_string(repository().join("examples/lib.rs")).unwrap();
    for document in english() {
        let has = document.blocks("rust").next().is_some();
        let named = compiled.contains(&format!("\"../{}\"", document.path));
        assert_eq!(has, named, "{}: examples/lib.rs should name what has snippets, and nothing else", document.path);
        for block in document.blocks("rust") {
            assert!(
                ["rust", "rust,no_run"].contains(&&*block.info),
                "{}:{}: {}",
                document.path,
                block.line,
                block.info
            );
        }
    }
}

/// Of kcpq, as its man pages have them, or of a script of ours; the rest are cargo's.
#[test]
fn flags_that_are_named_exist() {
    const OTHERS: [&str; 2] = ["--features", "--no-default-features"];
    let folder = Folder::new("flags");
    assert!(kcpq().arg("man").arg(&folder.0).status().unwrap().success());
    let mut known = String::new();
    for folder in [folder.0.clone(), repository().join("scripts")] {
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            known += &fs::read_to_string(file).unwrap().replace("\\-", "-");
        }
    }
    let known: BTreeSet<&str> = document::flags(&known).chain(OTHERS).collect();
    let mut wrong = String::new();
    for document in english().into_iter().chain(documents("README.zh-CN.md", CHINESE)) {
        for flag in document.flags.iter().filter(|flag| !known.contains(flag.as_str())) {
            let _ = writeln!(wrong, "{}: {flag}", document.path);
        }
    }
    assert!(wrong.is_empty(), "nothing has these flags:\n{wrong}");
}

#[test]
fn the_contents_list_every_chapter() {
    for book in [ENGLISH, CHINESE] {
        let summary = fs::read_to_string(repository().join(book).join("SUMMARY.md")).unwrap();
        for document in documents("README.md", book) {
            let name = document.path.rsplit('/').next().unwrap();
            let listed = summary.contains(&format!("]({name})"));
            assert!(listed || ["README.md", "SUMMARY.md"].contains(&name), "{book}/SUMMARY.md does not list {name}");
        }
    }
}

/// Commands, code, tables and links are the same in both languages; comments are translated as well.
#[test]
fn the_chinese_chapters_have_what_the_english_ones_have() {
    let mut chinese: BTreeMap<String, Document> =
        documents("README.zh-CN.md", CHINESE).into_iter().map(|document| (document.in_english(), document)).collect();
    let mut wrong = String::new();
    for document in english() {
        match chinese.remove(&document.path) {
            Some(translation) => wrong.push_str(&document.differences(&translation)),
            None => {
                let _ = writeln!(wrong, "{}: there is no translation", document.path);
            }
        }
    }
    for document in chinese.values() {
        let _ = writeln!(wrong, "{}: nothing is translated there", document.path);
    }
    assert!(wrong.is_empty(), "{wrong}");
}
