//! Clients over WebSockets: who is let in, and that they are held to the rules for all.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use kcpq_core::broker::STREAM_WINDOW;
use kcpq_core::frame::{Frame, Limits, command};
use kcpq_core::hello::{CloseReason, Hello, MAX_WELCOME, features};
use kcpq_smol::Client;
use serde_json::Value;
use support::folder::Folder;
use support::process::Process;
use support::program::kcpq;
use support::wait::{LIMIT, until};
use tungstenite::protocol::Role;
use tungstenite::{Bytes, Message, WebSocket};

fn serve(args: &[&str]) -> (Process, String, SocketAddr) {
    let mut command = kcpq();
    command.args(["serve", "-l", "127.0.0.1:0", "--register", "none", "--http", "0"]).args(args);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", LIMIT);
    let http = server.expect_line("monitoring on http://", LIMIT).parse().unwrap();
    (server, addr, http)
}

const OFFER: &str = "Sec-WebSocket-Protocol: kcpq\r\n";

/// A handshake with these headers besides those that it has to have: the status, and what there is then.
fn knock(http: SocketAddr, headers: &str) -> (u16, TcpStream) {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let usual = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    write!(stream, "GET /ws HTTP/1.1\r\nHost: {http}\r\n{usual}{key}{headers}\r\n").unwrap();
    let mut reader = BufReader::with_capacity(1, stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    // The example of RFC 6455, 1.3.
    assert!(status != 101 || head.to_ascii_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
    (status, stream)
}

/// A client that has come in.
struct Browser {
    socket: WebSocket<TcpStream>,
    frames: Vec<(u8, Vec<u8>, Vec<u8>)>,
}

impl Browser {
    fn come(http: SocketAddr, headers: &str) -> Self {
        let (status, stream) = knock(http, headers);
        assert_eq!(status, 101);
        Self { socket: WebSocket::from_raw_socket(stream, Role::Client, None), frames: Vec::new() }
    }

    fn greeted(http: SocketAddr) -> Self {
        let mut browser = Self::come(http, OFFER);
        browser.hello();
        assert_eq!(browser.next().0, command::WELCOME);
        browser
    }

    fn hello(&mut self) {
        let hello = Hello {
            version: 1,
            features: features::PROPERTIES,
            max_datagram: 1400,
            window: 0,
            max_body: 8 << 20,
            max_subject: 4096,
            max_tokens: 32,
            keep_alive: 15,
            epoch: 0,
            name: "a browser",
            session: None,
        };
        let mut out = [0; MAX_WELCOME];
        let len = hello.encode(&mut out);
        self.say(command::HELLO, "", &out[..len]);
    }

    fn say(&mut self, command: u8, subject: &str, payload: &[u8]) {
        let head = Frame::head(command, subject.len(), payload.len()).unwrap();
        let bytes = [&head, subject.as_bytes(), payload].concat();
        self.socket.send(Message::Binary(bytes.into())).unwrap();
    }

    fn subscribe(&mut self, pattern: &str) {
        self.say(command::SUB, pattern, &[0, 0, 0, 1]);
        assert_eq!(self.next().0, command::ACK);
    }

    /// The next frame.
    fn next(&mut self) -> (u8, Vec<u8>, Vec<u8>) {
        while self.frames.is_empty() {
            let Message::Binary(bytes) = self.socket.read().unwrap() else { continue };
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let frame = Frame::parse(rest, &Limits::NONE).expect("whole frames");
                self.frames.push((frame.command, frame.subject.to_vec(), frame.payload.to_vec()));
                rest = &rest[frame.encoded_len()..];
            }
        }
        self.frames.remove(0)
    }

    /// Why the server says that it closes the WebSocket, if it does not by CLOSE.
    fn closes_with(&mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

fn json(http: SocketAddr, path: &str) -> Value {
    let mut answer = ureq::get(format!("http://{http}{path}")).call().unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

fn builder() -> kcpq_smol::Builder {
    Client::builder().timeout(LIMIT)
}

#[test]
fn who_is_let_in() {
    let (server, _, http) = serve(&["--http-ws", "--http-ws-origin", "https://example.org"]);
    let own = format!("Origin: http://{http}\r\n{OFFER}");
    for (headers, status) in [
        (OFFER, 101),
        (&own, 101),
        ("Origin: https://example.org\r\nSec-WebSocket-Protocol: mqtt, kcpq\r\n", 101),
        ("Origin: https://evil.example\r\nSec-WebSocket-Protocol: kcpq\r\n", 403),
        ("Sec-WebSocket-Protocol: mqtt\r\n", 400),
        ("", 400),
        ("Sec-WebSocket-Protocol: kcpq, kcpq-token-nonsense\r\n", 400),
    ] {
        assert_eq!(knock(http, headers).0, status, "{headers}");
    }
    let (_full, _, small) = serve(&["--http-ws", "--http-ws-max", "2"]);
    let mut there = [Browser::greeted(small), Browser::greeted(small)];
    assert_eq!(knock(small, OFFER).0, 503);
    there[0].say(command::CLOSE, "", &[0]);
    assert_eq!(there[0].closes_with(), Some(1000));
    smol::block_on(until("its place is free", || knock(small, OFFER).0 == 101));
    let plain = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    assert_eq!(plain.get(format!("http://{http}/ws")).call().unwrap().status(), 426);
    drop(server);
    let (_server, _, http) = serve(&[]);
    assert_eq!(knock(http, OFFER).0, 404, "unless it is said nobody is");
}

#[test]
fn one_without_an_address_or_for_everybody_is_refused() {
    for (args, why) in [
        (&["serve", "--http-ws"][..], "--http ADDR"),
        (&["serve", "-l", "127.0.0.1:0", "--http", "0.0.0.0:0", "--http-open", "--http-ws"], "--open"),
        (&["serve", "--http", "0", "--http-ws-origin", "example.org"], "SCHEME://HOST"),
    ] {
        let output = kcpq().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{args:?}: {said}");
    }
}

#[test]
fn a_browser_is_a_client_like_any_other() {
    let (server, addr, http) = serve(&["--http-ws", "--shards", if cfg!(target_os = "linux") { "2" } else { "1" }]);
    let mut browsers = [Browser::greeted(http), Browser::greeted(http)];
    browsers.iter_mut().for_each(|browser| browser.subscribe("from.native"));
    smol::block_on(async {
        let client = builder().connect(addr.as_str()).await.unwrap();
        let mut messages = client.subscribe("from.browser").await.unwrap();
        for number in 0..100u32 {
            let payload = vec![number as u8; number as usize * 1_000];
            client.publish("from.native", &payload).header("Number", &number.to_string()).await.unwrap();
            for browser in &mut browsers {
                let (command, subject, message) = browser.next();
                assert_eq!((command, &subject[..]), (command::MSGX, &b"from.native"[..]));
                assert!(message.starts_with(&payload));
                browser.say(command::PUB, "from.browser", &payload);
                assert!(messages.next().await.unwrap().payload() == payload);
            }
        }
        client.close().await.unwrap();
    });
    let sessions = json(http, "/connz?kind=websocket");
    assert_eq!(sessions["connections"].as_array().unwrap().len(), 2);
    assert_eq!(json(http, "/varz")["kinds"]["websocket"], 2);

    server.terminate();
    for browser in &mut browsers {
        let (command, _, payload) = browser.next();
        assert_eq!((command, &payload[..]), (command::CLOSE, &[CloseReason::Shutdown.code()][..]));
        assert_eq!(browser.closes_with(), Some(1000));
    }
    assert!(server.wait(LIMIT).status.success());
}

#[test]
fn what_makes_no_sense_ends_the_session_and_nothing_else() {
    let (_server, _, http) = serve(&["--http-ws", "--max-message", "64k"]);
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let mut browser = Browser::come(http, OFFER);
        if rng.bool() {
            browser.hello();
        }
        let mut garbage = vec![0; rng.usize(0..2_000)];
        rng.fill(&mut garbage);
        let _ = browser.socket.send(Message::Binary(garbage.into()));
        if rng.bool() {
            let mut raw = [0; 64];
            rng.fill(&mut raw);
            let _ = browser.socket.get_mut().write_all(&raw);
        }
    }
    let mut browser = Browser::greeted(http);
    browser.socket.send(Message::Text("SUB a".into())).unwrap();
    assert_eq!(browser.closes_with(), Some(1003));
    let mut browser = Browser::greeted(http);
    // The socket may be closed before all of it is written.
    let _ = browser.socket.send(Message::Binary(vec![0; 1 << 20].into()));
    assert!(matches!(browser.closes_with(), Some(1009) | None));
    let mut browser = Browser::greeted(http);
    browser.say(command::PUB, "a", &vec![0; 70_000]);
    assert_eq!((browser.next().0, browser.next().0), (command::ERR, command::CLOSE));

    smol::block_on(until("all of them are gone", || json(http, "/varz")["connections"] == 0));
    assert_eq!(Browser::greeted(http).frames, []);
}

#[test]
fn a_slow_browser_has_its_queue_and_no_more_and_keeps_nobody_waiting() {
    const COUNT: u64 = 4_000;
    let (_server, addr, http) = serve(&["--http-ws", "--max-queued", "1M", "--throttle-for", "0s"]);
    let mut slow = Browser::greeted(http);
    slow.subscribe("flood");
    smol::block_on(async {
        let client = builder().connect(addr.as_str()).await.unwrap();
        let mut messages = client.subscribe("flood").capacity(1 << 20).await.unwrap();
        for _ in 0..COUNT {
            client.publish("flood", vec![1; 10_000]).await.unwrap();
            messages.next().await.unwrap();
        }
        client.close().await.unwrap();
    });
    let session = &json(http, "/connz?kind=websocket")["connections"][0];
    let waiting = session["pending_bytes"].as_u64().unwrap();
    assert!(waiting <= (1 << 20) + STREAM_WINDOW as u64, "{session:#}");
    let dropped = json(http, "/varz")["dropped"]["slow"].as_u64().unwrap();
    assert!(dropped > 1_000, "{dropped}");
    // It gets what has a place.
    slow.say(command::PING, "", &[]);
    let mut got = 0;
    while got + dropped < COUNT {
        got += u64::from(slow.next().0 == command::MSG);
    }
}

#[test]
fn one_that_writes_more_than_is_read_is_not_read() {
    let (_server, addr, http) = serve(&["--http-ws"]);
    let mut browser = Browser::greeted(http);
    let frame = Bytes::from([&Frame::head(command::PUB, 1, 10_000).unwrap()[..], b"a", &[7; 10_000]].concat());
    let writing = std::thread::spawn(move || {
        (0..2_000).for_each(|_| browser.socket.send(Message::Binary(frame.clone())).unwrap());
        browser.say(command::PING, "", &[]);
        assert_eq!(browser.next().0, command::PONG);
    });
    smol::block_on(async {
        let client = builder().connect(addr.as_str()).await.unwrap();
        client.flush().await.unwrap();
        client.close().await.unwrap();
    });
    writing.join().unwrap();
    assert_eq!(json(http, "/varz")["in_msgs"], 2_000);
}

#[test]
fn a_token_is_who_it_is_of_and_without_one_it_is_nobody() {
    let folder = Folder::new("websocket-token");
    let file = folder.0.join("page.token");
    let made = kcpq().arg("key").arg("token").arg(&file).output().unwrap();
    assert!(made.status.success());
    let hash = String::from_utf8(made.stdout).unwrap();
    let token = std::fs::read_to_string(&file).unwrap();
    let key = folder.0.join("server.key");
    assert!(kcpq().arg("key").arg("new").arg(&key).output().unwrap().status.success());
    let config = folder.0.join("kcpq.toml");
    let text = format!(
        "key_file = '{}'\nhttp_ws = true\n[permissions.page]\npublish = []\nsubscribe = ['open.>']\n[[client]]\nname = 'page'\n\
         token = '{}'\ngroup = 'page'\n",
        key.display(),
        hash.trim()
    );
    std::fs::write(&config, text).unwrap();
    let (_server, _, http) = serve(&["--config", config.to_str().unwrap()]);

    let mut nobody = Browser::come(http, OFFER);
    nobody.hello();
    let (command, _, payload) = nobody.next();
    assert_eq!((command, &payload[..]), (command::CLOSE, &[CloseReason::Denied.code()][..]));

    let mut page = Browser::come(http, &format!("Sec-WebSocket-Protocol: kcpq, {}\r\n", token.trim()));
    page.hello();
    assert_eq!(page.next().0, command::WELCOME);
    page.subscribe("open.a");
    page.say(command::SUB, "secret", &[0, 0, 0, 2]);
    let (command, _, payload) = page.next();
    assert_eq!((command, payload[4]), (command::ACK, 3));
    page.say(command::PUB, "open.a", b"x");
    assert_eq!(page.next().0, command::ERR);
    assert_eq!(json(http, "/connz?kind=websocket")["connections"][0]["authorized_user"], "page");
}
