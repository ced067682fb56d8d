//! `kcpq completions` and `kcpq man`: what is made of the command line's description for shells and for man.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, Parser};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, Failure};

/// The flags of `kcpq completions`.
#[derive(Debug, Parser)]
pub(super) struct Completions {
    /// The shell. For bash: kcpq completions bash >~/.local/share/bash-completion/completions/kcpq
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "kcpq", &mut text);
        match io::stdout().write_all(&text) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The flags of `kcpq man`.
#[derive(Debug, Parser)]
pub(super) struct Pages {
    /// A folder, which is made if need be: one page for each command, such as kcpq-serve.1
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// How all commands end, for people and scripts. The README has the same.
const EXIT: [(&str, &str); 5] = [
    ("0", "Success."),
    ("1", "Failure; standard error has a line that says why. For check: something does not work."),
    ("2", "Usage error."),
    ("3", "Ended before the requested count was reached, be it that time was up or that a signal came."),
    ("130", "Killed by a second signal, while what the first one asked for was under way."),
];

impl Pages {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let cannot = |error| Failure::Error(format!("cannot write to {}: {error}", self.folder.display()));
        fs::create_dir_all(&self.folder).map_err(cannot)?;
        let mut command = Cli::command().disable_help_subcommand(true);
        // So that each knows its whole name.
        command.build();
        write(&self.folder, command).map_err(cannot)
    }
}

/// The page of a command, and those of the commands below it.
fn write(folder: &Path, command: Command) -> io::Result<()> {
    for below in command.get_subcommands() {
        write(folder, below.clone())?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let is_whole = command.get_name() == "kcpq";
    // It stands in a section of its own.
    let has_commands = command.has_subcommands();
    let source = concat!("kcpq ", env!("KCPQ_VERSION"));
    let man = Man::new(command.after_help(None)).title(name.to_uppercase()).source(source).manual("kcpq");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT {
        rest.control("TP", []).text([bold(code)]).text([roman(meaning)]);
    }
    if !is_whole {
        rest.control("SH", ["SEE ALSO"]).text([bold("kcpq"), roman("(1)")]);
    }
    rest.to_writer(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)
}
