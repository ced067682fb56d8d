//! What the bridge says of itself over HTTP, on a thread of its own: `/healthz` and `/metrics`.

use std::convert::Infallible;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_lite::future::or;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use kcpq_smol::Client;
use kcpq_std_server::{BackboneView, Uplink};
use serde_json::json;
use smol::channel::{Receiver, Sender, bounded};
use smol::{Async, LocalExecutor, Timer};

use super::shared::Shared;
use crate::openmetrics::{self, gauge};
use crate::serve::http::{Body, Crowd, PAUSE, answer, connection, metrics};
use crate::serve::policy;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Http {
    /// Closes with it.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// What is shown.
struct Site {
    shared: Arc<Shared>,
    uplink: Arc<Uplink>,
    client: Client,
    /// Only this machine can reach it.
    local: bool,
}

impl Http {
    /// Serves in a thread of its own.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(
        listener: TcpListener,
        shared: Arc<Shared>,
        uplink: Arc<Uplink>,
        client: Client,
    ) -> io::Result<Self> {
        let local = policy::is_local(listener.local_addr()?);
        let listener = Async::new(listener)?;
        let (stop, stopped) = bounded(1);
        let serve = move || {
            let site = Rc::new(Site { shared, uplink, client, local });
            async_io::block_on(serve(&listener, &stopped, &site));
        };
        let thread = std::thread::Builder::new().name("kcpq-http".into()).spawn(serve)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
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

async fn serve(listener: &Async<TcpListener>, stopped: &Receiver<Infallible>, site: &Rc<Site>) {
    let (executor, crowd) = (LocalExecutor::new(), Crowd::default());
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => crowd.admit(|lease| {
                    let talk = talk(stream, Rc::clone(site));
                    executor.spawn(or(talk, async move { lease.end().await }))
                }),
                Err(error) => {
                    tracing::debug!(%error, "no connection for HTTP");
                    Timer::after(PAUSE).await;
                }
            }
        }
    };
    let stop = async {
        let _ = stopped.recv().await;
    };
    executor.run(or(stop, accept)).await;
}

/// One connection: one request.
async fn talk(stream: Async<TcpStream>, site: Rc<Site>) {
    let service = service_fn(|request| {
        let response = site.answer(&request);
        async { Ok::<_, Infallible>(response) }
    });
    if let Err(error) = connection(stream, service).await {
        tracing::debug!(%error, "HTTP");
    }
}

impl Site {
    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if let Some(refused) = answer::refused(request, self.local) {
            return refused;
        }
        let Some(view) = self.uplink.view() else { return answer::gone() };
        let is_there = self.client.is_connected();
        match request.uri().path() {
            "/healthz" => {
                answer::document(&json!({ "status": "ok", "kcpq": is_there, "nats": view.stats.joined == 1 }))
            }
            "/metrics" => answer::metrics(request.headers(), self.metrics(is_there, &view)),
            _ => answer::error(StatusCode::NOT_FOUND, "there are /healthz and /metrics"),
        }
    }

    fn metrics(&self, is_there: bool, view: &BackboneView) -> String {
        let (messages, bytes) = self.shared.queue.waiting();
        let mut all = vec![
            gauge("bridge_kcpq_connected", "1 if the kcpq server is there", f64::from(u8::from(is_there))),
            gauge("bridge_to_kcpq_waiting", "Messages that wait for the kcpq server", messages as f64),
            gauge("bridge_to_kcpq_waiting_size", "Bytes of these", bytes as f64).of(openmetrics::Unit::Bytes),
        ];
        all.extend(self.shared.counters.families());
        all.extend(metrics::backbone(view));
        openmetrics::write(all)
    }
}
