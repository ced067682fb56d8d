//! Questions to the HTTP port of a server.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use serde_json::Value;
use smol::net::TcpStream;
use smol_hyper::rt::FuturesIo;

use super::Failure;

/// Where to ask: what `kcpq serve --http` says, with or without `http://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    host: String,
    port: u16,
}

/// The port in examples everywhere, as of nats-server.
const PORT: u16 = 8222;
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// What an address of a site has to look like.
#[derive(Debug)]
pub(super) struct InvalidSite;

impl fmt::Display for InvalidSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it has to be a port, or HOST:PORT, as `kcpq serve --http` says where it listens")
    }
}

impl std::error::Error for InvalidSite {}

impl FromStr for Site {
    type Err = InvalidSite;

    fn from_str(text: &str) -> Result<Self, InvalidSite> {
        let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
            return Ok(Self { host: "127.0.0.1".into(), port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
                (host, port.parse().map_err(|_| InvalidSite)?)
            }
            _ => (text, PORT),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ', '[', ']']);
        is_host.then(|| Self { host: host.into(), port }).ok_or(InvalidSite)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Site {
    /// The document at a path, within a time.
    ///
    /// # Errors
    /// For people: that nobody is there, or what was said instead.
    pub(super) async fn document(&self, path: &str, within: Duration) -> Result<Value, Failure> {
        let (status, text) = or(self.ask(path), async {
            Timer::after(within).await;
            Err("no answer in time".into())
        })
        .await
        .map_err(|why| Failure::Error(format!("http://{self}: {why}")))?;
        let document = serde_json::from_slice::<Value>(&text).ok();
        match document {
            Some(document) if status.is_success() => Ok(document),
            Some(document) => {
                let why = document["error"].as_str().or_else(|| document["status"].as_str()).unwrap_or_default();
                Err(Failure::Error(format!("http://{self}{path}: {status}: {why}")))
            }
            None => Err(Failure::Error(format!("http://{self}{path}: {status}, but not what a kcpq server says"))),
        }
    }

    async fn ask(&self, path: &str) -> Result<(StatusCode, Bytes), String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused; is it the address of `kcpq serve --http`?".into(),
            _ => text(&error),
        })?;
        let (mut sender, connection) = http1::handshake(FuturesIo::new(stream)).await.map_err(|error| text(&error))?;
        let request = Request::get(path)
            .header(HOST, self.to_string())
            .body(Empty::<Bytes>::new())
            .map_err(|error| text(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| match error.is_canceled() {
                true => "the connection was closed before there was an answer".into(),
                false => text(&error),
            })?;
            let status = response.status();
            let body =
                Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok((status, body.to_bytes()))
        };
        // The connection ends when all was said, and the answer is there by then.
        let carry = async {
            let ended = connection.await;
            futures_lite::future::yield_now().await;
            Err(ended.err().map_or_else(|| "the connection was closed".into(), |error| error.to_string()))
        };
        or(exchange, carry).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_port_or_a_host_with_or_without_one() {
        for (text, shown) in [
            ("8222", "127.0.0.1:8222"),
            (":9000", "127.0.0.1:9000"),
            ("http://server.example:1/", "server.example:1"),
            ("server.example", "server.example:8222"),
            ("[::1]:9", "[::1]:9"),
            ("::1", "[::1]:8222"),
        ] {
            assert_eq!(text.parse::<Site>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "http://", "https://x", "a:b", "a/b", "x:99999", "user@x"] {
            assert!(text.parse::<Site>().is_err(), "{text}");
        }
    }
}
