//! Sealed sessions between the server and the client of smol, and between programs: keys in files, rules by keys.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use kcpq_core::access::{Access, Client as Known, Group, Limits, Permissions, Proof, Rules};
use kcpq_core::broker::{self, Keys};
use kcpq_smol::{Builder, Client, ConnectError, Event, PrivateKey, SharedSecret, Token};
use kcpq_std_server::{Config, Server};
use support::relay::{Relay, RelayConfig};
use support::wait::{LIMIT, soon, until};

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[seed; 32])
}

fn secret() -> SharedSecret {
    SharedSecret::from_bytes(&[7; 32])
}

fn token(seed: u8) -> Token {
    Token::from_bytes(&[seed; 32])
}

fn serve(access: Option<Access>, shards: usize) -> Server {
    let keys = Keys { key: Some(key(1)), secret: Some(secret()) };
    let listen = "127.0.0.1:0".parse().unwrap();
    Server::bind(Config { listen, access, keys, shards, ..Config::default() }).unwrap()
}

fn builder() -> Builder {
    Client::builder().timeout(LIMIT)
}

/// Its server has the key with this seed.
fn sealed(server: u8) -> Builder {
    builder().server_key(key(server).public())
}

fn stats(server: &Server) -> broker::Stats {
    server.snapshot().unwrap().broker
}

/// Whoever has the key 3 may publish to `operators.>` as well, all others in sealed sessions may not; nobody else is let in.
fn rules() -> Access {
    let nobody = Rules { allow: None, deny: vec!["operators.>".into()] };
    let others = Permissions { publish: nobody, ..Permissions::default() };
    let group = |name: &str, permissions| Group { name: name.into(), permissions, ..Group::default() };
    Access {
        groups: vec![group("others", others), group("operators", Permissions::default())],
        clients: vec![Known { name: "control room".into(), proof: Proof::Key(*key(3).public().as_bytes()), group: 1 }],
        sealed: Some(0),
        ..Access::default()
    }
}

#[test]
fn messages_travel_sealed_over_a_bad_link_and_behind_a_nat_that_forgets() {
    for shards in if cfg!(target_os = "linux") { vec![1, 3] } else { vec![1] } {
        let server = serve(Some(Access::with_keys()), shards);
        let bad = RelayConfig { loss: 0.05, duplicate: 0.05, corrupt: 0.02, seed: 5, ..RelayConfig::default() };
        let relay = Relay::start(server.local_addr(), bad);
        smol::block_on(async {
            let subscriber = sealed(1).identity(key(4)).connect(relay.addr()).await.unwrap();
            let mut heard = subscriber.subscribe("a").await.unwrap();
            let publisher = builder().secret(secret()).connect(relay.addr()).await.unwrap();
            for number in 0..300_u64 {
                if number % 100 == 50 {
                    relay.rebind();
                }
                publisher.publish("a", number.to_be_bytes()).await.unwrap();
                smol::Timer::after(Duration::from_millis(3)).await;
            }
            for number in 0..300_u64 {
                let message = soon("the message", heard.next()).await.unwrap();
                assert_eq!(message.payload(), number.to_be_bytes(), "each once and in order");
            }
            assert_eq!(subscriber.stats().client.reconnects + publisher.stats().client.reconnects, 0);
            until("both have moved", || stats(&server).sessions_moved >= 2).await;
        });
        assert_eq!(stats(&server).sealed_sessions_opened, 2);
        server.shutdown();
    }
}

#[test]
fn large_messages_travel_sealed() {
    let server = serve(None, 1);
    smol::block_on(async {
        let client = sealed(1).connect(server.local_addr()).await.unwrap();
        let mut heard = client.subscribe("a").await.unwrap();
        let payload: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ n >> 8) as u8).collect();
        client.publish("a", payload.clone()).await.unwrap();
        assert!(soon("the message", heard.next()).await.unwrap().payload() == payload);
    });
}

#[test]
fn rules_go_by_keys() {
    let server = serve(Some(rules()), 1);
    let addr = server.local_addr();
    smol::block_on(async {
        let operator = sealed(1).identity(key(3)).connect(addr).await.unwrap();
        let stranger = sealed(1).identity(key(9)).connect(addr).await.unwrap();
        let anonymous = sealed(1).connect(addr).await.unwrap();
        let mut heard = operator.subscribe("operators.*").await.unwrap();
        for (client, text) in [(&stranger, "no"), (&anonymous, "no"), (&operator, "yes")] {
            client.publish("operators.door", text).await.unwrap();
            client.flush().await.unwrap();
        }
        assert_eq!(soon("the message", heard.next()).await.unwrap().payload(), b"yes");
        assert_eq!(stats(&server).messages_denied, 2);
        // In the clear there is a word for it.
        let plain = builder().connect(addr).await.unwrap_err();
        assert_eq!(
            plain.to_string(),
            "no connection: the server closed the session: the server does not let this client in"
        );
        // And whoever does not know the server gets no answer.
        let quick = || builder().timeout(Duration::from_millis(500));
        for stranger in [quick().server_key(key(8).public()), quick().secret(SharedSecret::from_bytes(&[8; 32]))] {
            assert!(matches!(stranger.connect(addr).await, Err(ConnectError::Unanswered { .. })));
        }
        // The secret is known, but nobody who has no more is let in.
        assert!(matches!(quick().secret(secret()).connect(addr).await, Err(ConnectError::Unanswered { .. })));
        // Rules that change act on who is there.
        let mut events = anonymous.events();
        server.set_access(Some(&Access { sealed: None, ..rules() })).unwrap();
        let gone = async { while !matches!(events.next().await.unwrap(), Event::Disconnected { .. }) {} };
        soon("the anonymous client has to go", gone).await;
        operator.publish("operators.door", "still here").await.unwrap();
        assert_eq!(soon("the message", heard.next()).await.unwrap().payload(), b"still here");
    });
}

/// Who has the token 4 may have a session.
fn one_each() -> Access {
    let one = Limits { sessions: Some(1), ..Limits::default() };
    let proof = Proof::Token(*token(4).hash().as_bytes());
    Access {
        groups: vec![Group { name: "one".into(), limits: one, ..Group::default() }],
        clients: vec![Known { name: "thermometer".into(), proof, group: 0 }],
        ..Access::default()
    }
}

#[test]
fn who_is_known_is_told_why_it_is_not_let_in_and_who_is_not_what_silence_may_mean() {
    let server = serve(Some(one_each()), 1);
    let addr = server.local_addr();
    smol::block_on(async {
        let first = sealed(1).token(token(4)).connect(addr).await.unwrap();
        let quick = |token| sealed(1).token(token).timeout(Duration::from_secs(1));
        let second = quick(token(4)).connect(addr).await.unwrap_err();
        assert_eq!(second.to_string(), "no connection: the server closed the session: a limit was reached");
        let silent = quick(token(5)).connect(addr).await.unwrap_err();
        let (key, hash) = (key(1).public(), token(5).hash());
        assert_eq!(
            silent.to_string(),
            format!(
                "no answer from {addr} within 1s, and who is not known gets none: is {key} the server's key, and this \
                 client's token, {hash}, among its clients'?"
            )
        );
        first.close().await.unwrap();
        let third = sealed(1).token(token(4)).connect(addr).await.unwrap();
        third.publish("a", "b").await.unwrap();
        third.flush().await.unwrap();
    });
}

#[test]
fn keys_that_do_not_go_together_are_refused_in_words() {
    smol::block_on(async {
        let addr = SocketAddr::from(([127, 0, 0, 1], 9));
        let refused = [
            (builder().identity(key(2)), "keys: an identity needs the server's key as well"),
            (builder().token(token(2)), "keys: a token needs the server's key as well"),
            (sealed(1).identity(key(2)).token(token(2)), "keys: either an identity or a token, not both"),
            (sealed(1).secret(secret()), "keys: either a shared secret or the server's key, not both"),
        ];
        for (builder, text) in refused {
            assert_eq!(builder.connect(addr).await.unwrap_err().to_string(), text);
        }
    });
}

#[cfg(feature = "cli")]
mod programs {
    use std::path::{Path, PathBuf};
    use std::process::Stdio;

    use super::*;
    use crate::support::process::Process;
    use crate::support::program::kcpq;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// A new file, and what others may know of it.
    fn new_key(folder: &Path, kind: &str, name: &str) -> (PathBuf, String) {
        let file = folder.join(name);
        let made = kcpq().args(["key", kind]).arg(&file).output().unwrap();
        assert!(made.status.success());
        let shown = kcpq().args(["key", "public"]).arg(&file).output().unwrap();
        assert_eq!(shown.stdout, made.stdout);
        (file, text(&made.stdout).trim().to_owned())
    }

    #[test]
    fn programs_with_keys_in_files_and_a_configuration() {
        let folder = std::env::temp_dir().join(format!("kcpq-sealed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [(server_key, server), (client_key, client)] =
            ["server", "client"].map(|name| new_key(&folder, "new", name));
        let (token_file, token) = new_key(&folder, "token", "token");
        let config = folder.join("kcpq.toml");
        let rules = format!(
            "listen = \"127.0.0.1:0\"\nkey_file = {server_key:?}\n[[client]]\nname = \"thermometer\"\nkey = \"{client}\"\n\
             [[client]]\nname = \"barometer\"\ntoken = \"{token}\"\n"
        );
        std::fs::write(&config, rules).unwrap();
        let mut serve = Process::spawn_with_output(
            kcpq().args(["serve", "-c"]).arg(&config).stdout(Stdio::piped()).stderr(Stdio::piped()),
        );
        let addr = serve.expect_line("listening on ", PATIENCE);
        let sub = Process::spawn(
            kcpq()
                .args(["sub", "-s", &addr, "--server-key", &server, "--key"])
                .arg(&client_key)
                .args(["a", "--count", "1"]),
        );
        sub.expect_error_line("subscribed to ", PATIENCE);
        let publish = |with: &[&str]| {
            let run = kcpq().args(["pub", "-s", &addr, "a", "hello"]).args(with).stdin(Stdio::null()).output().unwrap();
            (run.status.code(), text(&run.stderr))
        };
        // Without a key of its own a client may have a token.
        let with_token = ["--server-key", &server, "--token-file", token_file.to_str().unwrap()];
        assert_eq!(publish(&with_token).0, Some(0));
        serve.expect_logged("identity=\"barometer\"", PATIENCE);
        let refused = publish(&[]);
        assert!(refused.0 == Some(1) && refused.1.contains("does not let this client in"), "{refused:?}");
        let anonymous = publish(&["--server-key", &server, "--timeout", "500ms"]);
        assert!(
            anonymous.0 == Some(1) && anonymous.1.contains("does it let clients in that have no key?"),
            "{anonymous:?}"
        );
        let mut check = kcpq();
        check.args(["check", "-s", &addr, "--server-key", &client, "--timeout", "500ms", "--key"]).arg(&client_key);
        let said = text(&check.stdin(Stdio::null()).output().unwrap().stdout);
        assert!(said.contains(&format!("is {client} the server's key")) && said.contains("kcpq key public"), "{said}");
        assert_eq!(publish(&["--server-key", &server, "--key", client_key.to_str().unwrap()]).0, Some(0));
        assert_eq!(sub.wait(PATIENCE).stdout, b"a: hello\n");
        serve.expect_logged("identity=\"thermometer\"", PATIENCE);
        serve.terminate();
        assert!(serve.wait(PATIENCE).status.success());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
