//! The server, from its start until a signal comes or one of its threads fails.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, SystemTime};

use async_io::Timer;
use async_signal::{Signal, Signals};
use futures_lite::StreamExt;
use futures_lite::future::{or, pending};
use kcpq_std_server::{Config, Server, View};
use smol::channel::Receiver;

use super::flood::Flood;
use super::http::{self, About, Door, Http, Pass, Viewing};
use super::reread::Reread;
use super::{Serve, policy, supervisor};
use crate::{Failure, signals};

/// Serves until a signal comes, or a thread of the server fails.
pub(super) fn serve(mut reread: Reread, flood: &Flood) -> Result<(), Failure> {
    let serve = &reread.settings.serve;
    let of_websockets = if serve.http_ws { serve.http_ws_max } else { 0 };
    let of_http = if serve.http.is_some() { DESCRIPTORS_OF_HTTP + of_websockets } else { 0 };
    let of_shards = (DESCRIPTORS_OF_A_SHARD + DESCRIPTORS_OF_A_SOCKET * serve.listen.len()) * serve.shards;
    let of_backbone = if serve.nats.is_wanted() { DESCRIPTORS_OF_A_BACKBONE } else { 0 };
    reserve_descriptors(DESCRIPTORS + of_http + of_shards + of_backbone)?;
    // Before the first client can come, so that a signal is never missed.
    let mut signals = signals::of_a_server()?;
    let config = serve.config(reread.settings.access.clone())?;
    let open = config.compat_key.is_none() && config.access.is_none();
    let http =
        serve.http.as_deref().map(|addr| http::listen(addr, serve.http_open)).transpose().map_err(Failure::Error)?;
    let about = About {
        name: config.broker.name.to_string(),
        started: SystemTime::now(),
        max_sessions: config.broker.max_sessions,
        max_message: config.broker.frames.max_body,
        max_queued: config.broker.max_queued,
        max_queued_total: config.broker.max_queued_total,
    };
    let http_addr = http.as_ref().and_then(|listener| listener.local_addr().ok());
    if serve.http_ws {
        policy::check_ws(http_addr, config.access.as_ref(), config.compat_key.is_some(), serve.open)
            .map_err(Failure::Error)?;
    }
    let door = serve.http_ws.then(|| Door {
        origins: serve.http_ws_origin.clone(),
        most: serve.http_ws_max,
        max_message: config.broker.frames.max_body,
    });
    let local = http_addr.is_some_and(policy::is_local);
    let (pass, patterns) = (pass(&config), watchable(serve, &config, local));
    let (drain, linger) = (serve.drain, serve.linger);
    let server = Server::bind(config)?;
    let viewing = Viewing { address: nearest(&server), pass, patterns };
    let (fail, failure) = smol::channel::bounded(1);
    server.on_failure(move || {
        // The only one, so there is room.
        let _ = fail.try_send(());
    });
    announce(server.local_addrs());
    // Until the server has ended.
    let http = http.map(|listener| monitor(listener, server.view(), about, viewing, door)).transpose()?;
    supervisor::ready(server.local_addrs());
    if open {
        let whom = if server.local_addrs().iter().all(|addr| policy::is_local(*addr)) {
            "on this machine"
        } else {
            "who reaches this address"
        };
        tracing::info!("open: everybody {whom} may read and publish everything");
    }
    async_io::block_on(async {
        let view = server.view();
        let end = or(end_by_signal(&mut signals, || reread.run(&server)), end_by_failure(&failure));
        let end = or(end, async { match supervisor::watch(view).await {} });
        let end = or(end, async { match flood.watch().await {} }).await;
        match end {
            End::Signal(signal) if !drain.is_zero() => {
                supervisor::stopping(drain + linger + MARGIN);
                tracing::info!(?signal, ?drain, "letting sessions go");
                server.hand_over(drain);
                let again = async {
                    end_by_signal(&mut signals, || ()).await;
                };
                let over = or(all_gone(server.view(), drain), again);
                // That may take longer than it is allowed to be silent.
                or(over, async { match supervisor::watch(server.view()).await {} }).await;
                tracing::info!("stopping");
            }
            End::Signal(signal) => {
                supervisor::stopping(Duration::ZERO);
                tracing::info!(?signal, "stopping");
            }
            End::Failure => {
                supervisor::stopping(Duration::ZERO);
                tracing::error!("a thread of the server has failed: stopping");
            }
        }
        let stop = async {
            smol::unblock(move || server.shutdown()).await;
            None
        };
        match (or(stop, async { Some(end_by_signal(&mut signals, || ()).await) }).await, end) {
            (Some(_), _) => Err(Failure::Error("ended at once by a second signal".into())),
            (None, end) => {
                if let Some(http) = http {
                    http.part();
                }
                match end {
                    End::Failure => Err(Failure::Error("a thread of the server has failed".into())),
                    End::Signal(_) => Ok(()),
                }
            }
        }
    })
}

/// Files that the program needs beside the shards (the reactor, signals, looking up names), that each of these needs to wait,
/// and for each address that it listens on.
const DESCRIPTORS: usize = 24;
const DESCRIPTORS_OF_A_SHARD: usize = 2;
const DESCRIPTORS_OF_A_SOCKET: usize = 2;
/// Two connections, a third one while it looks for a server, and its thread.
const DESCRIPTORS_OF_A_BACKBONE: usize = 8;
const DESCRIPTORS_OF_HTTP: usize = http::MAX_CONNECTIONS + 2;

/// How often it is looked whether sessions are left.
const LOOK: Duration = Duration::from_millis(250);
/// What a supervisor gives beyond what the end should take.
const MARGIN: Duration = Duration::from_secs(5);

/// Why the server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Signal(Signal),
    Failure,
}

/// Waits for a signal that ends the program; at SIGHUP does something else.
async fn end_by_signal(signals: &mut Signals, mut at_hup: impl FnMut()) -> End {
    loop {
        match signals.next().await {
            Some(Ok(signal)) if signals::ends(signal) => return End::Signal(signal),
            Some(Ok(Signal::Hup)) => at_hup(),
            Some(Ok(signal)) if signals::is_told_otherwise(signal) => {}
            Some(Ok(signal)) => tracing::info!(?signal, "no use for this signal"),
            Some(Err(error)) => tracing::error!(%error, "cannot wait for signals"),
            None => return pending().await,
        }
    }
}

/// Waits until no session is left, for this time at most.
async fn all_gone(view: View, limit: Duration) {
    let counted = async {
        loop {
            let looked = view.clone();
            let snapshot = smol::unblock(move || looked.snapshot()).await;
            if snapshot.is_none_or(|snapshot| snapshot.broker.sessions == 0) {
                return;
            }
            Timer::after(LOOK).await;
        }
    };
    let over = async {
        Timer::after(limit).await;
    };
    or(counted, over).await;
}

async fn end_by_failure(failure: &Receiver<()>) -> End {
    match failure.recv().await {
        Ok(()) => End::Failure,
        Err(_) => pending().await,
    }
}

/// For scripts that wait for it, a line for each address. Whoever closed standard output does not want to know, and is served
/// all the same.
fn announce(addrs: &[SocketAddr]) {
    let mut out = io::stdout();
    let written = addrs.iter().try_for_each(|addr| writeln!(out, "listening on {addr}"));
    if let Err(error) = written.and_then(|()| out.flush()) {
        tracing::warn!(%error, "cannot write to standard output");
    }
    for addr in addrs {
        tracing::info!(%addr, "listening");
    }
}

/// Begins to answer over HTTP, and says where.
fn monitor(listener: TcpListener, view: View, about: About, viewing: Viewing, door: Option<Door>) -> io::Result<Http> {
    let addr = listener.local_addr()?;
    let http = Http::start(listener, view, about, viewing, door)?;
    let mut out = io::stdout();
    if let Err(error) = writeln!(out, "monitoring on http://{addr}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "cannot write to standard output");
    }
    tracing::info!(%addr, "monitoring over HTTP");
    Ok(http)
}

/// Of the addresses of a server the one that is best reached from this machine.
fn nearest(server: &Server) -> SocketAddr {
    let find = |is: fn(&SocketAddr) -> bool| server.local_addrs().iter().copied().find(is);
    let here = find(|addr| policy::is_local(*addr)).or_else(|| find(|addr| addr.ip().is_unspecified()));
    here.unwrap_or_else(|| server.local_addr())
}

/// What a client of this server shows that has no key of its own.
fn pass(config: &Config) -> Pass {
    let clear = config.access.as_ref().is_none_or(|access| access.anonymous.is_some() || access.local.is_some());
    match (&config.keys.key, &config.keys.secret, &config.compat_key) {
        (_, _, None) if clear => Pass::Nothing,
        (Some(key), ..) => Pass::ServerKey(key.public()),
        (None, Some(secret), _) => Pass::Secret(secret.clone()),
        (None, None, Some(key)) => Pass::OriginalKey(key.clone()),
        (None, None, None) => Pass::Nothing,
    }
}

/// Whose messages are shown over HTTP, which `local`ly only this machine can reach: what is said; if nothing is, everything where
/// whoever can see it could subscribe to it as well.
fn watchable(serve: &Serve, config: &Config, local: bool) -> Vec<String> {
    if !serve.http_subscribe.is_empty() {
        return serve.http_subscribe.iter().filter(|pattern| !pattern.is_empty()).cloned().collect();
    }
    let open = config.access.is_none() && config.compat_key.is_none();
    let all = open && local && [config.listen].iter().chain(&config.listen_also).all(|addr| policy::is_local(*addr));
    if all { vec![">".into()] } else { Vec::new() }
}

/// Finds out whether so many files can be opened, since not all that need some can say that there are none.
fn reserve_descriptors(count: usize) -> Result<(), Failure> {
    let pipes: Result<Vec<_>, _> = (0..count.div_ceil(2)).map(|_| io::pipe()).collect();
    pipes.map(drop).map_err(|error| {
        Failure::Error(format!("cannot open the {count} files that a server needs (see ulimit -n): {error}"))
    })
}
