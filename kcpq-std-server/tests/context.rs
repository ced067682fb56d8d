//! `kcpq context`: how to reach a server, under a name.

mod support;

use std::process::{Command, Output};
use std::time::Duration;

use support::folder::Folder;
use support::process::Process;
use support::program::kcpq;

/// Far more than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program of a user whose configuration is in that folder.
struct User(Folder);

impl User {
    fn kcpq(&self, args: &[&str]) -> Command {
        let mut command = kcpq();
        command.env("XDG_CONFIG_HOME", &self.0.0).env("HOME", &self.0.0).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        Process::spawn(&mut self.kcpq(args)).wait(PATIENCE)
    }

    /// What it says if it goes well.
    fn says(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says if it does not.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
#[cfg(unix)]
fn a_server_is_reached_under_a_name_and_what_is_said_otherwise_wins() {
    let user = User(Folder::new("contexts"));
    let mut server = Process::spawn(kcpq().args(["serve", "-l", "127.0.0.1:0", "--http", "0"]));
    let addr = server.expect_line("listening on ", PATIENCE);
    let http = server.expect_line("monitoring on http://", PATIENCE);
    assert_eq!(user.says(&["context", "ls"]), "");
    let away = ["context", "add", "away", "-s", "127.0.0.1:1,127.0.0.1:2", "--timeout", "50ms", "--key", "no/such.key"];
    user.says(&away);
    user.says(&["context", "add", "here", "-s", &addr, "--http", &http, "--preset", "video", "--parity"]);
    assert_eq!(user.says(&["context", "ls"]), "  away\n  here\n");
    let shown = user.says(&["context", "show", "here"]);
    assert!(shown.contains(&format!("server = \"{addr}\"")) && shown.contains("parity = true"), "{shown}");
    let shown = user.says(&["context", "show", "away"]);
    let key = std::env::current_dir().unwrap().join("no/such.key");
    assert!(shown.contains(&format!("key_file = \"{}\"", key.display())), "wherever it is used: {shown}");
    assert!(shown.contains("server = [\"127.0.0.1:1\", \"127.0.0.1:2\"]"), "{shown}");

    user.says(&["pub", "--context", "here", "a", "b"]);
    let by_name = user.kcpq(&["pub", "a", "b"]).env("KCPQ_CONTEXT", "here").output().unwrap();
    assert!(by_name.status.success());
    user.says(&["context", "select", "here"]);
    assert_eq!(user.says(&["context", "ls"]), "  away\n* here\n");
    assert!(user.says(&["ping", "-c", "1"]).starts_with(&format!("connected to {addr} ")));
    assert!(user.says(&["top", "--once"]).contains(&addr));
    // One that is named is another one's.
    user.says(&["context", "rm", "away"]);
    user.says(&["context", "add", "away", "--aes256-key-file", "no/such.key"]);
    user.says(&["context", "select", "away"]);
    user.says(&["ping", "-c", "1", "-s", &addr]);
    assert!(user.fails(&["ping", "-c", "1", "--context", "away", "-s", &addr]).contains("such.key"));
    assert!(user.fails(&["ping", "-c", "1"]).contains("such.key"));
    user.says(&["context", "select", "--none"]);
    assert!(user.fails(&["context", "show"]).contains("no context is selected"));
    user.says(&["context", "select", "away"]);
    user.says(&["context", "rm", "away"]);
    assert_eq!(user.says(&["context", "ls"]), "  here\n", "and it is selected no more");
}

#[test]
#[cfg(all(unix, feature = "nats"))]
fn a_file_wins_over_a_context_that_is_named_and_needs_no_other() {
    let user = User(Folder::new("context-and-file"));
    let file = user.0.write("bridge.toml", "to_nats = 'a'\n[kcpq]\nservers = 'b:2'\n[nats]\nservers = 'nats://n'\n");
    let check = ["bridge", "--check", "--config", file.to_str().unwrap()];
    user.says(&["context", "add", "here", "-s", "a:1", "--timeout", "3s"]);
    user.says(&["context", "select", "here"]);
    let line = |said: &str, key: &str| {
        let line = said.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // The selected one is of whoever works at the shell.
    let said = user.says(&check);
    assert_eq!(line(&said, "kcpq.timeout"), "kcpq.timeout = 5s # default");
    let said = user.says(&[&check[..], &["--context", "here"]].concat());
    assert_eq!(line(&said, "kcpq.timeout"), "kcpq.timeout = 3s # context");
    assert_eq!(line(&said, "kcpq.servers"), format!("kcpq.servers = b:2 # {}:3", file.display()));
    let said = user.says(&["bridge", "--check", "--to-nats", "a", "--nats", "nats://n"]);
    assert_eq!(line(&said, "kcpq.servers"), "kcpq.servers = a:1 # context");
}

#[test]
#[cfg(unix)]
fn what_is_wrong_with_a_context_is_told() {
    let user = User(Folder::new("wrong-contexts"));
    assert_eq!(
        user.fails(&["ping", "--context", "x"]),
        "kcpq: there is no context 'x'; `kcpq context ls` shows those that there are\n"
    );
    assert!(user.fails(&["ping", "--context", "../x"]).contains("'../x' is no context"));
    assert!(user.fails(&["context", "add", "x"]).contains("a context needs something to say"));
    assert_eq!(user.run(&["context", "add", "x", "-s", "a:b:c"]).status.code(), Some(2));
    user.says(&["context", "add", "x", "-s", "a"]);
    assert!(user.fails(&["context", "add", "x", "-s", "b"]).contains("context 'x' exists"));
    let file = user.0.0.join("kcpq/contexts/x.toml");
    std::fs::write(&file, "preset = 'video'\ntimout = '1s'\n").unwrap();
    let said = user.fails(&["ping", "--context", "x"]);
    assert_eq!(said, format!("kcpq: {}:2: unknown key 'timout'; did you mean 'timeout'?\n", file.display()));
    // A selection that is gone is no reason to ask another server.
    user.says(&["context", "select", "x"]);
    std::fs::remove_file(file).unwrap();
    assert!(user.fails(&["ping"]).contains("there is no context 'x'"));
}
