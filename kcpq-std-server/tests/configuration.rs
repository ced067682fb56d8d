//! `kcpq serve` with a configuration file, and where it listens.

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::folder::Folder;
use support::process::Process;
use support::program::kcpq;

const PATIENCE: Duration = Duration::from_secs(60);

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Process::spawn(kcpq().args(args)).wait(PATIENCE);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn serve(file: &Path) -> (Process, String) {
    let mut command = kcpq();
    command.args(["serve", "--config"]).arg(file);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", PATIENCE);
    (server, addr)
}

/// What becomes of a message.
fn publishes(addr: &str, subject: &str) -> Result<(), String> {
    let output = kcpq().args(["pub", "-s", addr, subject, "x"]).stdin(Stdio::null()).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

#[test]
fn without_settings_it_listens_for_this_machine_only() {
    let (code, said, _) = run(&["serve", "--check"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("listen = 127.0.0.1:4000 "), "{said}");
    for addr in ["0.0.0.0:0", "[::]:0", ":0"] {
        let (code, _, said) = run(&["serve", "-l", addr]);
        assert_eq!(code, Some(1), "{addr}");
        assert!(said.starts_with("kcpq: refused to listen on "), "{said}");
        assert!(said.contains("--open") && said.lines().count() == 1, "{said}");
    }
    let mut open = Process::spawn(kcpq().args(["serve", "--open", "-l", "0.0.0.0:0"]));
    let addr = open.expect_line("listening on 0.0.0.0:", PATIENCE);
    open.expect_logged("open: everybody who reaches this address", PATIENCE);
    assert_eq!(publishes(&format!("127.0.0.1:{addr}"), "a"), Ok(()));
    let with_key = kcpq()
        .args(["serve", "--check", "-l", "0.0.0.0:0"])
        .env("KCPQ_AES256_KEY_HEX", "00".repeat(32))
        .output()
        .unwrap();
    assert!(with_key.status.success(), "nobody gets in without the key");
}

#[test]
fn it_listens_on_several_addresses_of_which_each_is_judged() {
    let folder = Folder::new("listeners");
    let (mut server, first) = serve(&folder.write("kcpq.toml", "listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]"));
    let second = server.expect_line("listening on ", PATIENCE);
    assert_ne!(first, second);
    let subscriber = Process::spawn(kcpq().args(["sub", "-s", &first, "a", "--count", "1"]));
    subscriber.expect_error_line("subscribed to ", PATIENCE);
    assert_eq!(publishes(&second, "a"), Ok(()));
    assert_eq!(subscriber.wait(PATIENCE).stdout, b"a: x\n");

    let open_to_others = |args: &[&str]| run(&[&["serve", "--check", "-l", "127.0.0.1:7"], args].concat());
    let (code, _, said) = open_to_others(&["-l", "0.0.0.0:9"]);
    assert_eq!((code, said.starts_with("kcpq: refused to listen on 0.0.0.0:9, ")), (Some(1), true), "{said}");
    let (code, said, _) = open_to_others(&["--listen", "[::1]:7,0.0.0.0:9", "--open"]);
    assert_eq!((code, said.contains("listen = 127.0.0.1:7, [::1]:7, 0.0.0.0:9 ")), (Some(0), true), "{said}");
    let (code, _, said) = open_to_others(&["-l", "127.0.0.1:7"]);
    assert_eq!((code, said), (Some(1), "kcpq: cannot listen on 127.0.0.1:7: it is named twice\n".into()));
}

#[test]
fn who_is_on_this_machine_needs_no_key_where_that_is_said() {
    let folder = Folder::new("local");
    let key = folder.0.join("server.key");
    assert_eq!(run(&["key", "new", key.to_str().unwrap()]).0, Some(0));
    let with = |allowed: &str| {
        let text = format!("key_file = '{}'\nlisten = '127.0.0.1:0'\n[anonymous]\nallowed = {allowed}", key.display());
        folder.write("kcpq.toml", &text)
    };
    let (_server, addr) = serve(&with("\"local\""));
    assert_eq!(publishes(&addr, "a"), Ok(()));
    let (_server, addr) = serve(&with("\"sealed\""));
    assert!(publishes(&addr, "a").unwrap_err().contains("does not let this client in"));
    // Elsewhere everybody needs one, so it may listen for others; original clients are to be kept out for that as well.
    let file = folder.write("kcpq.toml", "[anonymous]\nallowed = 'local-or-sealed'\n[original]\nallowed = false");
    let (code, said, _) = run(&["serve", "--check", "-l", "0.0.0.0:7", "-c", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("anonymous clients on this machine: as default"), "{said}");
}

#[test]
fn what_is_in_force_is_told_with_its_source() {
    let folder = Folder::new("in-force");
    let file = folder.write(
        "kcpq.toml",
        "listen = \"localhost:1\"\n[limits]\nmax_sessions = 5\nmax_tokens = 9\n\
         [transport]\npreset = \"games\"\ncongestion = \"off\"\n",
    );
    let file = file.to_str().unwrap();
    let output = kcpq()
        .args(["serve", "--check", "--max-tokens", "8", "-c", file])
        .env("KCP_NATS_ADDR", "127.0.0.1:2")
        .env("KCPQ_PRESET", "steady")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = |key: &str| said.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("listen").starts_with("listen = 127.0.0.1:2") && line("listen").ends_with("# environment"), "{said}");
    assert!(line("limits.max_sessions").ends_with(&format!("# {file}:3")), "{said}");
    assert!(
        line("limits.max_tokens").contains("= 8 ") && line("limits.max_tokens").ends_with("# command line"),
        "{said}"
    );
    assert!(line("limits.linger").ends_with("# default"), "{said}");
    assert!(
        line("transport.preset").contains("= steady ") && line("transport.preset").ends_with("# environment"),
        "{said}"
    );
    assert!(line("transport.congestion").ends_with(&format!("# {file}:7")), "{said}");
    assert!(said.ends_with("everybody may do everything\n"), "{said}");
}

#[test]
fn a_file_with_mistakes_is_refused_with_the_place() {
    let folder = Folder::new("mistakes");
    for (text, wanted) in [
        ("[limits]\nmax_session = 1", ":2: unknown key 'max_session' in [limits]; did you mean 'max_sessions'?"),
        ("\nshards = 0", ":2: invalid value '0' for '--shards <N>': '0' is not a number of shards"),
        ("[permissions.default]\npublish = ['a..b']", ":2: 'permissions.default.publish' has 'a..b': invalid subject"),
        ("listen = \"0.0.0.0:1\"", "refused to listen on 0.0.0.0:1"),
    ] {
        let file = folder.write("kcpq.toml", text);
        for args in [&["serve", "--check", "-c"][..], &["serve", "-c"]] {
            let (code, _, said) = run(&[args, &[file.to_str().unwrap()]].concat());
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(wanted) && said.lines().count() == 1, "{said}");
        }
    }
    let (code, _, said) = run(&["serve", "-c", "no/such/file"]);
    assert_eq!((code, said.starts_with("kcpq: cannot read no/such/file: ")), (Some(1), true), "{said}");
}

#[test]
#[cfg(unix)]
fn permissions_are_replaced_at_sighup_and_a_broken_file_changes_nothing() {
    let folder = Folder::new("reload");
    let file = folder.write("kcpq.toml", "listen = \"127.0.0.1:0\"\n[permissions.default]\npublish = [\"open.>\"]\n");
    let (server, addr) = serve(&file);
    let subscriber = Process::spawn(kcpq().args(["sub", "-s", &addr, ">", "--count", "2"]));
    subscriber.expect_error_line("subscribed to ", PATIENCE);
    assert_eq!(publishes(&addr, "open.a"), Ok(()));
    assert_eq!(publishes(&addr, "b"), Err("kcpq: not permitted to publish to b\n".into()));
    server.expect_logged("not permitted to publish", PATIENCE);

    folder.write("kcpq.toml", "listen = \"127.0.0.1:0\"\n[permissions.default]\npublsh = []\n");
    server.signal("-HUP");
    server.expect_logged(":3: unknown key 'publsh' in [permissions.default]; did you mean 'publish'?", PATIENCE);
    server.expect_logged("everything stays as it was", PATIENCE);
    assert!(publishes(&addr, "b").is_err());

    folder.write(
        "kcpq.toml",
        "listen = \"127.0.0.1:0\"\nname = \"other\"\n[permissions.default]\npublish = { deny = [\"open.>\"] }\n",
    );
    server.signal("-HUP");
    server.expect_logged("configuration read again", PATIENCE);
    server.expect_logged("no more: group default: publish open.>, subscribe everything", PATIENCE);
    server.expect_logged("from now on: group default: publish everything but not open.>", PATIENCE);
    server.expect_logged("changed, but holds only from the next start on", PATIENCE);
    assert_eq!(publishes(&addr, "b"), Ok(()));
    assert!(publishes(&addr, "open.a").is_err());
    assert_eq!(subscriber.wait(PATIENCE).stdout, b"open.a: x\nb: x\n", "its session has lived through both");

    // What is not permitted any more ends, and who is not let in any more as well.
    let subscriber = Process::spawn(kcpq().args(["sub", "-s", &addr, "a"]));
    subscriber.expect_error_line("subscribed to ", PATIENCE);
    folder.write("kcpq.toml", "listen = \"127.0.0.1:0\"\n[permissions.default]\nsubscribe = [\"b\"]\n");
    server.signal("-HUP");
    subscriber.expect_error_line("subscription to a lost: the server does not permit this subscription", PATIENCE);
    let subscriber = Process::spawn(kcpq().args(["sub", "-s", &addr, "b"]));
    subscriber.expect_error_line("subscribed to ", PATIENCE);
    folder.write("kcpq.toml", "listen = \"127.0.0.1:0\"\n[anonymous]\nallowed = false\n");
    server.signal("-HUP");
    subscriber.expect_error_line(
        "connection lost: the server closed the session: the server does not let this client in",
        PATIENCE,
    );
    server.terminate();
    assert!(server.wait(PATIENCE).status.success());
}
