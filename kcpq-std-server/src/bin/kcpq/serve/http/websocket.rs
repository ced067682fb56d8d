//! `/ws`: clients that speak the protocol over a WebSocket (RFC 6455; PROTOCOL.md 11), which is what browsers can.
//!
//! Here bytes are carried, and it is decided whose pages may come: a browser says of which origin the page is that it
//! shows. Who may do what is the server's affair, as with any client.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use futures_lite::StreamExt;
use futures_lite::future::or;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};
use kcpq_core::seal::Token;
use kcpq_std_server::broker::{STREAM_WINDOW, StreamEvent};
use kcpq_std_server::{Stream, View};
use smol::channel::{Receiver, unbounded};
use smol::{Async, Timer};
use smol_hyper::rt::FuturesIo;

use super::answer::names_this_machine;
use super::body::{self, Body};

/// Who may come by WebSocket.
#[derive(Clone, Debug)]
pub(in super::super) struct Door {
    /// The origins of pages that may come, besides those that are here; `*` for all.
    pub(in super::super) origins: Vec<String>,
    /// How many may be there.
    pub(in super::super) most: usize,
    /// The longest frame that the server takes, in bytes.
    pub(in super::super) max_message: u32,
}

/// One that was let in: its connection is about to be a WebSocket.
#[derive(Debug)]
pub(super) struct Visitor {
    upgrade: OnUpgrade,
    token: Option<[u8; 32]>,
}

/// The subprotocol: what is spoken.
const PROTOCOL: &str = "kcpq";
/// How the text of a token begins, which stands beside it: a page can say nothing else in a handshake.
const TOKEN: &str = "kcpq-token-";
/// What a message of a WebSocket may have besides the longest frame.
const SLACK: usize = 64 << 10;
/// Bytes that are read at once. The default takes 128 KiB of each connection.
const READ: usize = 8 << 10;
/// How long the last frames may take, and the other end to say that it has them.
pub(super) const LINGER: Duration = Duration::from_secs(2);

impl Door {
    /// The answer to a handshake, and who comes in by it.
    ///
    /// # Errors
    /// What is answered to who does not, and why.
    pub(super) fn open(
        &self,
        headers: &HeaderMap,
        upgrade: impl FnOnce() -> OnUpgrade,
    ) -> Result<(Response<Body>, Visitor), (StatusCode, &'static str)> {
        let has = |name, word: &str| words(headers, name).any(|said| said.eq_ignore_ascii_case(word));
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
        let (Some(key), true, true) = (key, has(UPGRADE, "websocket"), has(CONNECTION, "upgrade")) else {
            return Err((StatusCode::UPGRADE_REQUIRED, "this is for WebSockets"));
        };
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err((StatusCode::UPGRADE_REQUIRED, "only version 13 of WebSockets"));
        }
        if !self.lets_in(headers) {
            return Err((StatusCode::FORBIDDEN, "the server does not let in pages of this origin (--http-ws-origin)"));
        }
        if !words(headers, SEC_WEBSOCKET_PROTOCOL).any(|word| word == PROTOCOL) {
            return Err((StatusCode::BAD_REQUEST, "only for the subprotocol kcpq"));
        }
        let token = words(headers, SEC_WEBSOCKET_PROTOCOL).find(|word| word.starts_with(TOKEN));
        let token = token.map(str::parse::<Token>).transpose().map_err(|_| (StatusCode::BAD_REQUEST, "no token"))?;
        let mut response = Response::new(body::text(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        let accept = accept.map_err(|_| (StatusCode::BAD_REQUEST, "no key"))?;
        response.headers_mut().extend([
            (UPGRADE, HeaderValue::from_static("websocket")),
            (CONNECTION, HeaderValue::from_static("upgrade")),
            (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL)),
            (SEC_WEBSOCKET_ACCEPT, accept),
        ]);
        Ok((response, Visitor { upgrade: upgrade(), token: token.map(|token| *token.hash().as_bytes()) }))
    }

    /// True if the page that comes is one of these, or of this server by its address: a name may be a stranger's who
    /// has made it lead here (DNS rebinding). What is no browser says nothing, and could say anything.
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        let host = headers.get(HOST).filter(|host| names_this_machine(host)).and_then(|host| host.to_str().ok());
        let is_here = host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, of)| of == host));
        is_here || self.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }
}

/// The words of a header that is a list.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect::<Vec<_>>().into_iter()
}

impl Visitor {
    /// Carries its bytes until one end or the other has enough.
    pub(super) async fn stay(self, view: &View, door: &Door) {
        let (socket, read) = match self.upgrade.await.map(|upgraded| upgraded.downcast::<FuturesIo<Async<TcpStream>>>())
        {
            Ok(Ok(parts)) => (parts.io.into_inner(), parts.read_buf),
            Ok(Err(_)) => return tracing::error!("a WebSocket has come by another way than it was sent"),
            Err(error) => return tracing::debug!(%error, "no WebSocket"),
        };
        let Ok(remote) = ready(&socket) else { return };
        let longest = door.max_message as usize + SLACK;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .max_message_size(Some(longest))
            .max_frame_size(Some(longest));
        let socket = WebSocketStream::from_partially_read(socket, read.to_vec(), Role::Server, Some(config)).await;
        if let Err(error) = carry(socket, view, remote, self.token).await {
            tracing::debug!(%error, %remote, "WebSocket");
        }
    }
}

/// Small messages are not to wait for others.
fn ready(socket: &Async<TcpStream>) -> io::Result<SocketAddr> {
    socket.get_ref().set_nodelay(true)?;
    socket.get_ref().peer_addr()
}

type Socket = Async<TcpStream>;

async fn carry(
    socket: WebSocketStream<Socket>,
    view: &View,
    remote: SocketAddr,
    token: Option<[u8; 32]>,
) -> Result<(), Error> {
    let (mut outward, mut inward) = socket.split();
    let (sender, events) = unbounded();
    // Closes when the session is no more.
    let (alive, over) = smol::channel::bounded::<()>(1);
    let mut alive = Some(alive);
    let stream = view.open_stream(remote, token, move |event| {
        if event == StreamEvent::Ended {
            drop(alive.take());
        }
        // No more than a window waits there.
        let _ = sender.try_send(event);
    });
    let Some(stream) = stream else { return Ok(()) };
    let window = Window::default();
    let ends = async {
        let _ = over.recv().await;
        Timer::after(LINGER).await;
        Ok(None)
    };
    let carried = or(take_in(&mut inward, &stream, &window), hand_out(&mut outward, &events, &stream, &window));
    match or(carried, ends).await? {
        // It has closed it, or its patience is over.
        None => Ok(()),
        Some(code) => {
            let reason = CloseFrame { code, reason: "".into() };
            let parting = async {
                outward.close(Some(reason)).await?;
                while inward.next().await.transpose()?.is_some() {}
                Ok(())
            };
            or(parting, async {
                Timer::after(LINGER).await;
                Ok(())
            })
            .await
        }
    }
}

/// What has come and was not read.
#[derive(Debug, Default)]
struct Window {
    unread: Cell<usize>,
    opens: event_listener::Event,
}

/// Gives the server what comes; says why it is enough, if it is not the other end that has closed it.
async fn take_in(
    inward: &mut WebSocketReceiver<Socket>,
    stream: &Stream,
    window: &Window,
) -> Result<Option<CloseCode>, Error> {
    loop {
        while window.unread.get() >= STREAM_WINDOW {
            window.opens.listen().await;
        }
        match inward.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                window.unread.set(window.unread.get() + bytes.len());
                stream.came(bytes);
            }
            Some(Ok(Message::Text(_))) => return Ok(Some(CloseCode::Unsupported)),
            Some(Ok(Message::Close(_))) | None => return Ok(None),
            // Pings are answered by themselves.
            Some(Ok(_)) => {}
            Some(Err(Error::Capacity(_))) => return Ok(Some(CloseCode::Size)),
            Some(Err(error)) => return Err(error),
        }
    }
}

/// Sends what the server has; says so when that was all.
async fn hand_out(
    outward: &mut WebSocketSender<Socket>,
    events: &Receiver<StreamEvent>,
    stream: &Stream,
    window: &Window,
) -> Result<Option<CloseCode>, Error> {
    while let Ok(event) = events.recv().await {
        match event {
            StreamEvent::Frames(frames) => {
                let len = frames.len();
                outward.send(Message::Binary(frames)).await?;
                stream.sent(len);
            }
            StreamEvent::Read(bytes) => {
                window.unread.set(window.unread.get().saturating_sub(bytes));
                window.opens.notify(1);
            }
            StreamEvent::Ended => break,
        }
    }
    Ok(Some(CloseCode::Normal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn pages_come_from_here_or_from_where_the_configuration_says() {
        let door = Door { origins: vec!["https://example.org".into()], most: 1, max_message: 100 };
        for (host, origin, may) in [
            ("127.0.0.1:8222", Some("http://127.0.0.1:8222"), true),
            ("localhost:8222", Some("http://localhost:8222"), true),
            ("192.0.2.1:8222", Some("http://192.0.2.1:8222"), true),
            ("127.0.0.1:8222", Some("http://127.0.0.1:1"), false),
            ("127.0.0.1:8222", Some("https://example.org"), true),
            ("127.0.0.1:8222", Some("https://example.org.evil.example"), false),
            ("evil.example:8222", Some("http://evil.example:8222"), false),
            ("127.0.0.1:8222", Some("null"), false),
            ("127.0.0.1:8222", None, true),
        ] {
            let mut said = headers(&[("host", host)]);
            said.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            assert_eq!(door.lets_in(&said), may, "{host} {origin:?}");
        }
        let door = Door { origins: vec!["*".into()], most: 1, max_message: 100 };
        assert!(door.lets_in(&headers(&[("host", "a"), ("origin", "null")])));
    }

    #[test]
    fn lists_are_words_in_one_header_or_several() {
        let said = headers(&[("connection", "keep-alive, Upgrade")]);
        assert_eq!(words(&said, CONNECTION).collect::<Vec<_>>(), ["keep-alive", "Upgrade"]);
        assert_eq!(words(&said, UPGRADE).count(), 0);
    }
}
