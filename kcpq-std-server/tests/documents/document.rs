//! What a document in Markdown is made of, as far as that can be compared.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// A document, read.
pub(crate) struct Document {
    /// From the repository's root.
    pub(crate) path: String,
    blocks: Vec<Block>,
    /// Depths of its headings, in order.
    headings: Vec<usize>,
    /// Rows of its tables, in order: how many columns each has.
    rows: Vec<usize>,
    /// Where it leads, in order.
    links: Vec<String>,
    /// Flags of programs that it names outside of blocks.
    pub(crate) flags: Vec<String>,
}

/// A fenced block.
pub(crate) struct Block {
    /// Where it begins.
    pub(crate) line: usize,
    /// What stands behind the fence, as `rust,no_run`.
    pub(crate) info: String,
    pub(crate) text: String,
    /// Why it is not run, if that is said above it.
    pub(crate) not_run: Option<String>,
}

impl Document {
    pub(crate) fn read(repository: &Path, path: String) -> Self {
        let text = fs::read_to_string(repository.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut document = Self { path, blocks: vec![], headings: vec![], rows: vec![], links: vec![], flags: vec![] };
        let mut above = "";
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let indented = line.len() - line.trim_start().len();
            if let Some(info) = line.trim_start().strip_prefix("```") {
                let mut text = String::new();
                for (_, line) in lines.by_ref().take_while(|(_, line)| line.trim() != "```") {
                    let _ = writeln!(text, "{}", line.get(indented..).unwrap_or_default());
                }
                let not_run = above.strip_prefix("<!-- not run: ").and_then(|why| why.strip_suffix(" -->"));
                let not_run = not_run.map(str::to_owned);
                document.blocks.push(Block { line: index + 1, info: info.to_owned(), text, not_run });
            } else {
                document.line(line);
            }
            above = line.trim();
        }
        document
    }

    fn line(&mut self, line: &str) {
        if line.starts_with('#') {
            self.headings.push(line.len() - line.trim_start_matches('#').len());
        }
        if line.starts_with('|') {
            self.rows.push(line.replace("\\|", "").matches('|').count());
        }
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            self.links.push(english(target));
        }
        // In code; dashes in prose are no flags.
        self.flags.extend(line.split('`').skip(1).step_by(2).flat_map(flags).map(str::to_owned));
    }

    /// Blocks in this language.
    pub(crate) fn blocks<'d>(&'d self, language: &'d str) -> impl Iterator<Item = &'d Block> {
        self.blocks.iter().filter(move |block| block.info.split([',', ' ']).next() == Some(language))
    }

    /// The path of what this is a translation of.
    pub(crate) fn in_english(&self) -> String {
        english(&self.path)
    }

    /// What a translation lacks, or has besides.
    pub(crate) fn differences(&self, translation: &Self) -> String {
        let mut text = String::new();
        let mut tell = |what: String| {
            let _ = writeln!(text, "{}: {what}", translation.path);
        };
        if self.headings != translation.headings {
            tell(format!("headings {:?}, not {:?}", translation.headings, self.headings));
        }
        if self.rows != translation.rows {
            tell(format!("{} rows of tables, not {}, or other columns", translation.rows.len(), self.rows.len()));
        }
        let (mut ours, mut theirs) = (self.links.clone(), translation.links.clone());
        ours.sort();
        theirs.sort();
        for link in theirs.iter().filter(|&link| !ours.contains(link)) {
            tell(format!("leads to {link}, and the original does not"));
        }
        for link in ours.iter().filter(|&link| !theirs.contains(link)) {
            tell(format!("does not lead to {link}"));
        }
        if self.blocks.len() != translation.blocks.len() {
            tell(format!("{} blocks, not {}", translation.blocks.len(), self.blocks.len()));
        }
        for (ours, theirs) in self.blocks.iter().zip(&translation.blocks) {
            if ours.info != theirs.info || ours.without_comments() != theirs.without_comments() {
                tell(format!("the block of line {} is not that of line {}", theirs.line, ours.line));
            }
        }
        text
    }
}

impl Block {
    /// Its text as far as that is not for people.
    fn without_comments(&self) -> String {
        let comment = if self.info.starts_with("rust") { "// " } else { "# " };
        let line = |line: &str| match line.find(comment) {
            Some(0) if self.info.starts_with("rust") && line.starts_with("# ") => line.to_owned(),
            Some(0) => String::new(),
            Some(at) if line[..at].ends_with(' ') => line[..at].trim_end().to_owned(),
            _ => line.trim_end().to_owned(),
        };
        self.text.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Words of a text that begin with two dashes.
pub(crate) fn flags(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split(move |c: char| !is_part(c)).filter(|word| word.len() > 4 && word.starts_with("--"))
}

/// The path of the English document for that of a Chinese one; others as they are. What is named in a heading is not
/// compared, since headings are translated.
fn english(path: &str) -> String {
    let path = path.split('#').next().filter(|path| !path.is_empty()).unwrap_or("#");
    let path = path.replace("README.zh-CN.md", "README.md").replace("README.md", "README(.zh-CN).md");
    if path.contains("book/") { path.replace("book/zh", "book/en") } else { path.replace("../zh/", "../en/") }
        .replace("README(.zh-CN).md", "README.md")
}
