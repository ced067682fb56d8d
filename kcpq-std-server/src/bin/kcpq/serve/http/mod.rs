//! Monitoring over HTTP: a thread of its own, which asks those that serve page by page.
//!
//! ```text
//! connection -> hyper -> answer   which document, its query       varz, connz, subsz, streamz, metrics   the documents
//!   crowd                look     what they are made of, at most one second old
//!                        live     the documents again and again
//!                        messages what is published to a pattern
//!                        page     what a browser makes of these
//!                        websocket    clients that speak the protocol, if they are let in
//! ```
//!
//! Nobody who can reach the port does more than read, unless WebSockets are let in, which are clients like others;
//! nobody keeps others from it, and however often it is asked the threads that serve are asked once a second at most.

pub(crate) mod answer;
mod body;
mod connz;
mod crowd;
mod keptz;
mod live;
mod look;
mod messages;
pub(crate) mod metrics;
mod page;
mod patterns;
mod query;
mod recent;
mod streamz;
mod subsz;
mod varz;
mod websocket;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::rc::{Rc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::or;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, UpgradeableConnection};
use hyper::service::{HttpService, service_fn};
use kcpq_std_server::View;
use smol::channel::{Receiver, Sender, bounded};
use smol::{Async, LocalExecutor, Timer};
use smol_hyper::rt::{FuturesIo, SmolTimer};

pub(crate) use self::body::Body;
pub(crate) use self::crowd::Crowd;
use self::crowd::Lease;
pub(super) use self::crowd::MAX_CONNECTIONS;
pub(super) use self::look::About;
use self::look::Looker;
pub(super) use self::messages::{Pass, Viewing};
pub(super) use self::websocket::Door;
use super::policy;

/// How long a client may take to say what it wants.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Bytes of a request's head: hyper's least.
const MAX_HEAD: usize = 8 << 10;
/// The wait after an error that is not a client's, such as too many open files.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// The thread. It ends at once when this is dropped.
#[derive(Debug)]
pub(super) struct Http {
    /// Closes with it. What is sent by it is that the last words are waited for.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Listens on an address that was said by [`parse`].
///
/// # Errors
/// A line for people.
pub(crate) fn listen(address: &str, open: bool) -> Result<TcpListener, String> {
    let cannot = |error: io::Error| format!("cannot listen on {address} for HTTP: {error}");
    let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(cannot)?.collect();
    let preferred = found.iter().find(|addr| addr.is_ipv4()).or_else(|| found.first());
    let addr = *preferred.ok_or_else(|| format!("cannot listen on {address} for HTTP: it has no address"))?;
    policy::check_http(addr, open)?;
    TcpListener::bind(addr).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("cannot listen on {address} for HTTP: address already in use; choose another with --http")
        }
        _ => cannot(error),
    })
}

/// An address to listen on: HOST:PORT, or a port alone for this machine.
///
/// # Errors
/// What it is not.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let address = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None if text.parse::<u16>().is_ok() => format!("127.0.0.1:{text}"),
        None => text.to_owned(),
    };
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(address),
        _ => Err("it has to be a port, or an address and a port such as 127.0.0.1:8222".into()),
    }
}

impl Http {
    /// Serves in a thread of its own.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(
        listener: TcpListener,
        view: View,
        about: About,
        viewing: Viewing,
        door: Option<Door>,
    ) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let listener = Async::new(listener)?;
        let (stop, stopped) = bounded(1);
        let serve = move || {
            let looker = Rc::new(Looker::new(view, about, viewing, door));
            async_io::block_on(serve(&listener, &stopped, looker, policy::is_local(local)));
        };
        let thread = std::thread::Builder::new().name("kcpq-http".into()).spawn(serve)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// The server has stopped: ends the thread when clients that speak WebSocket have heard of it, or had time for that.
    pub(super) fn part(self) {
        if let Some(stop) = &self.stop {
            // The only one, so there is room.
            let _ = stop.try_send(());
        }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread for HTTP has panicked");
        }
    }
}

async fn serve(listener: &Async<TcpListener>, stopped: &Receiver<()>, looker: Rc<Looker>, local: bool) {
    let executor = LocalExecutor::new();
    let crowd = Rc::new(Crowd::default());
    let accept = async {
        let mut failing = false;
        loop {
            // What was looked at is not kept for longer than it is of use.
            let stale = async {
                looker.stale().await;
                None
            };
            match or(async { Some(listener.accept().await) }, stale).await {
                None => looker.forget(),
                Some(Ok((stream, _))) => {
                    failing = false;
                    crowd.admit(|lease| {
                        let talk = talk(stream, Rc::clone(&looker), Rc::downgrade(&crowd), Rc::clone(&lease), local);
                        executor.spawn(or(talk, async move { lease.end().await }))
                    });
                }
                Some(Err(error)) => {
                    // Once, until one comes again: without files for it nobody would see otherwise why nothing is shown.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "no connections over HTTP for now");
                    }
                    Timer::after(PAUSE).await;
                }
            }
        }
    };
    executor
        .run(async {
            let parts = or(async { stopped.recv().await.is_ok() }, accept).await;
            // Who hears nothing of it would take the connection for lost.
            let patience = async {
                Timer::after(websocket::LINGER).await;
            };
            if parts {
                or(crowd.have_left(), patience).await;
            }
        })
        .await;
}

/// One connection: one request, unless it becomes a WebSocket.
async fn talk(stream: Async<TcpStream>, looker: Rc<Looker>, crowd: Weak<Crowd>, lease: Rc<Lease>, local: bool) {
    let visitor = RefCell::new(None);
    let service = service_fn(|mut request| {
        // It owns this connection, and so is there.
        let answer = crowd.upgrade().map(|crowd| {
            answer::answer(&looker, &crowd, &lease, local, &mut request, |came| _ = visitor.replace(Some(came)))
        });
        async { answer.ok_or("the server ends") }
    });
    if let Err(error) = connection(stream, service).await {
        tracing::debug!(%error, "HTTP");
    }
    if let (Some(visitor), Some(door)) = (visitor.take(), &looker.door) {
        lease.stay();
        visitor.stay(looker.view(), door).await;
    }
}

/// A connection with one request, which has little time to say what it wants.
pub(crate) fn connection<S>(
    stream: Async<TcpStream>,
    service: S,
) -> UpgradeableConnection<FuturesIo<Async<TcpStream>>, S>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(FuturesIo::new(stream), service)
        .with_upgrades()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_machine_and_other_addresses_name_theirs() {
        for (text, address) in [
            ("8222", "127.0.0.1:8222"),
            (":8222", "0.0.0.0:8222"),
            ("[::1]:8222", "[::1]:8222"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(address));
        }
        for text in ["", ":", "host", "host:", "host:70000", "99999", "[::1]"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(listen("0.0.0.0:0", false).unwrap_err().contains("--http-open"));
        assert!(listen("127.0.0.1:0", false).is_ok() && listen("0.0.0.0:0", true).is_ok());
    }
}
