//! `kcpq key`: the keys of sealed sessions, and the files they are kept in.
//!
//! A private key is in a file that only its owner can read, one line of text; it is never on a command line and never in a
//! log.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use kcpq_core::seal::{KeyText, KeyTextError, Kind, PrivateKey, PublicKey, SharedSecret, Token};
use kcpq_smol::Builder;
use zeroize::Zeroizing;

use super::Failure;

/// The flags of `kcpq key`.
#[derive(Debug, Parser)]
pub(super) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a private key, write it to FILE, which only you can read, and print its public key
    New {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Make a secret that server and clients share, in place of keys, and write it to FILE, which only you can read
    Shared {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Make a token, by which a server knows a client that has no key, write it to FILE, which only you can read, and
    /// print its hash, which the server's configuration names
    Token {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Print the public key of the private key in FILE, or the hash of the token in it
    Public {
        /// A file that `kcpq key new` or `kcpq key token` has written
        file: PathBuf,
    },
}

impl Key {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let public = match &self.action {
            Action::New { file } => {
                let key = PrivateKey::from_bytes(&*random()?);
                write(file, &key.to_text())?;
                key.public().to_string()
            }
            Action::Token { file } => {
                let token = Token::from_bytes(&*random()?);
                write(file, &token.to_text())?;
                token.hash().to_string()
            }
            Action::Public { file } => load::<Public>(file)?.0,
            Action::Shared { file } => return write(file, &SharedSecret::from_bytes(&*random()?).to_text()),
        };
        writeln!(io::stdout(), "{public}")?;
        Ok(())
    }
}

/// What others may know of a private key or a token.
struct Public(String);

impl FromStr for Public {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        match text.parse::<PrivateKey>() {
            Ok(key) => Ok(Self(key.public().to_string())),
            Err(KeyTextError::Kind { found: Kind::Token, .. }) => Ok(Self(text.parse::<Token>()?.hash().to_string())),
            Err(error) => Err(error),
        }
    }
}

/// The keys of a client's sealed sessions.
#[derive(Debug, Args)]
pub(super) struct SealArg {
    /// Public key of the server, as `kcpq key public` prints it: the session is sealed
    #[arg(long, env = "KCPQ_SERVER_KEY", value_name = "PUBLIC")]
    server_key: Option<PublicKey>,
    /// File with the client's own private key, by which the server knows it
    #[arg(long = "key", env = "KCPQ_KEY_FILE", value_name = "FILE")]
    identity: Option<PathBuf>,
    /// File with a token, as `kcpq key token` makes it, by which the server knows the client, in place of --key
    #[arg(long, env = "KCPQ_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with a secret that the server has as well, in place of keys: the session is sealed
    #[arg(long, env = "KCPQ_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SealArg {
    /// Gives a client its keys.
    pub(super) fn apply(&self, mut builder: Builder) -> Result<Builder, Failure> {
        if let Some(key) = self.server_key {
            builder = builder.server_key(key);
        }
        if let Some(file) = &self.identity {
            builder = builder.identity(load(file)?);
        }
        if let Some(file) = &self.token_file {
            builder = builder.token(load(file)?);
        }
        if let Some(file) = &self.secret_file {
            builder = builder.secret(load(file)?);
        }
        Ok(builder)
    }
}

/// Bytes that nobody can guess.
fn random() -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut entropy = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *entropy)?;
    Ok(entropy)
}

/// Writes a key to a file of its own.
fn write(path: &Path, key: &KeyText) -> Result<(), Failure> {
    let mut file = create(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Error(format!(
            "{0} exists; no key is overwritten (its public half: kcpq key public {0})",
            path.display()
        )),
        _ => Failure::Error(format!("cannot create {}: {error}", path.display())),
    })?;
    let text = Zeroizing::new(format!("{key}\n"));
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        drop(file);
        let _ = std::fs::remove_file(path); // half a key is none
        return Err(Failure::Error(format!("cannot write {}: {error}", path.display())));
    }
    Ok(())
}

/// Reads the private key, the token or the shared secret in a file.
///
/// # Errors
/// If others than its owner can do anything with it, if it cannot be read, or has something else in it.
pub(super) fn load<K: FromStr<Err = KeyTextError>>(path: &Path) -> Result<K, Failure> {
    // Longer than any key: what is not one need not be read whole.
    const LIMIT: u64 = 1_024;
    let unreadable = |error: io::Error| Failure::Error(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    refuse_if_shared(path, &file)?;
    let mut text = Zeroizing::new(String::with_capacity(LIMIT as usize));
    file.take(LIMIT).read_to_string(&mut text).map_err(unreadable)?;
    text.trim()
        .parse()
        .map_err(|error| Failure::Error(format!("the key in {} cannot be used: {error}", path.display())))
}

#[cfg(unix)]
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(unix)]
fn refuse_if_shared(path: &Path, file: &File) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    // A device or a pipe has no owner in this sense: what comes from there is not kept there.
    if metadata.is_file() && mode & 0o077 != 0 {
        let path = path.display();
        return Err(Failure::Error(format!("others may use {path} (mode {mode:o}), refused: chmod 600 {path}")));
    }
    Ok(())
}

/// Who may read a file is decided by the folder that it is in.
#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(not(unix))]
fn refuse_if_shared(_: &Path, _: &File) -> Result<(), Failure> {
    Ok(())
}
