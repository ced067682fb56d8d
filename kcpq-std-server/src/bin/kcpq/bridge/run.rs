//! The bridge, from its start until a signal comes or something fails.

use std::io::{self, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use async_signal::{Signal, Signals};
use futures_lite::StreamExt;
use futures_lite::future::{or, pending};
use kcpq_smol::{Builder, Client, Event, Events, Subscription};
use kcpq_std_server::{Backbone, Uplink};
use smol::channel::Receiver;

use super::Bridge;
use super::down::to_kcpq;
use super::http::Http;
use super::map::{Map, Rule};
use super::shared::{LOOK, Shared};
use crate::nats::Crossing;
use crate::serve::flood::Flood;
use crate::serve::{http as monitoring, supervisor};
use crate::{Failure, signals};

/// Messages that may wait for that, and bytes of them, unless more may wait while NATS is away.
const MESSAGES: usize = 1 << 20;
const BURST: usize = 8 << 20;

impl Bridge {
    /// What the flags make: the way to NATS, and to the kcpq server.
    ///
    /// # Errors
    /// For people: what cannot be used.
    pub(super) fn prepare(&self) -> Result<(Backbone, Builder), Failure> {
        if self.to_nats.is_empty() && self.to_kcpq.is_empty() {
            return Err(Failure::Error("nothing would cross: say what goes to_nats, to_kcpq, or both".into()));
        }
        let named = |pattern: &&str| pattern.starts_with('$');
        let names = self.to_nats.iter().map(|pattern| &**pattern).chain(self.map.iter().map(Rule::nats));
        let crossing = Crossing {
            // What goes out is what is subscribed to there.
            export: if self.to_nats.is_empty() {
                Vec::new()
            } else {
                [">"].into_iter().chain(names.filter(named)).map(Into::into).collect()
            },
            import: self.to_kcpq.clone(),
            prefix: "".into(),
            store: Vec::new(),
            last_values: "".into(),
            leaf: Vec::new(),
        };
        let backbone = self.nats.backbone("kcpq bridge", crossing, self.linger)?;
        let backbone = backbone
            .ok_or_else(|| Failure::Error("no NATS server is named: give --nats, or servers in [nats]".into()))?;
        Ok((backbone, self.server.builder("kcpq bridge")?))
    }

    /// Carries messages until a signal comes. At SIGHUP `reread` is called.
    pub(super) fn carry(self, flood: &Flood, mut reread: impl FnMut()) -> Result<(), Failure> {
        // Before anything can happen, so that a signal is never missed.
        let mut signals = signals::of_a_server()?;
        let first = self.server.first()?;
        let (backbone, builder) = self.prepare()?;
        let buffer = backbone.buffer;
        let link = self.link.unwrap_or_else(|| first.to_string());
        let shared = Arc::new(Shared::new(link, Map::new(self.map), self.to_nats, self.kcpq_buffer));
        let listener = self.monitoring.as_deref().map(|addr| monitoring::listen(addr, self.http_open)).transpose();
        let listener = listener.map_err(Failure::Error)?;
        let heard = Arc::clone(&shared);
        let uplink = Arc::new(Uplink::start(backbone, move |what| heard.hear(what))?);
        let (fail, failure) = smol::channel::bounded(1);
        uplink.on_failure(move || {
            // The only one, so there is room.
            let _ = fail.try_send(());
        });
        let client = builder.own_thread().connect_in_background(first)?;
        let monitoring =
            listener.map(|listener| Http::start(listener, Arc::clone(&shared), Arc::clone(&uplink), client.clone()));
        let monitoring = monitoring.transpose()?;
        tracing::info!(kcpq = client.server(), link = shared.link, "bridging");
        async_io::block_on(async {
            let told = smol::spawn(tell(client.events(), Arc::clone(&shared)));
            let signal = async {
                end_by_signal(&mut signals, &mut reread, || shared.log(uplink.view())).await;
                Ok(())
            };
            let ends = or(or(signal, end_by_failure(&failure)), async { match flood.watch().await {} });
            // One message is in its hands, whoever looks at it.
            let mut down = pin!(to_kcpq(&shared, &client));
            let carried = carry(&shared, &client, &uplink, buffer, ends, down.as_mut()).await;
            let lasts = finish(&shared, &client, uplink, monitoring, self.linger, carried, down);
            let again = async {
                end_by_signal(&mut signals, || (), || ()).await;
                Err(Failure::Error("ended at once by a second signal".into()))
            };
            let result = or(lasts, again).await;
            told.cancel().await;
            result
        })
    }
}

/// What is left when a signal has come: the subscription, as far as there was one.
type Carried = Result<Option<Subscription>, Failure>;

/// Carries messages both ways until `ends` says so.
async fn carry(
    shared: &Shared,
    client: &Client,
    uplink: &Uplink,
    buffer: usize,
    ends: impl Future<Output = Result<(), Failure>>,
    down: Pin<&mut impl Future<Output = ()>>,
) -> Carried {
    let mut subscription = None;
    let up = async {
        let patterns = shared.to_nats.iter().map(|pattern| &**pattern).chain([uplink.answers()]);
        let subscribed = subscribe(client, patterns, buffer).await?;
        let subscription = subscription.insert(subscribed);
        let announced = announce(client, uplink);
        or(
            async {
                announced.await;
                pending().await
            },
            to_nats(shared, client, uplink, subscription),
        )
        .await
    };
    let down = async {
        down.await;
        pending().await
    };
    or(ends, or(up, down)).await?;
    Ok(subscription)
}

/// Subscribes to all of these at the kcpq server, as soon as it is there.
async fn subscribe<'p>(
    client: &Client,
    mut patterns: impl Iterator<Item = &'p str>,
    buffer: usize,
) -> Result<Subscription, Failure> {
    let first = patterns.next().unwrap_or_default();
    let subscribe =
        client.subscribe(first).capacity(MESSAGES).max_bytes(buffer.max(BURST)).drop_oldest().without_kept();
    let subscribe = patterns.fold(subscribe, |subscribe, pattern| subscribe.and(pattern));
    subscribe.await.map_err(|error| Failure::Error(format!("cannot subscribe at the kcpq server: {error}")))
}

/// For scripts that wait for it, a line when both sides are there for the first time. Whoever closed standard output does not want
/// to know.
async fn announce(client: &Client, uplink: &Uplink) {
    let server = loop {
        if let Some(server) = uplink.view().filter(|view| view.stats.joined == 1).and_then(|view| view.server) {
            break server;
        }
        Timer::after(LOOK / 10).await;
    };
    let mut out = io::stdout();
    let written = writeln!(out, "bridging {} and {server}", client.server()).and_then(|()| out.flush());
    if let Err(error) = written {
        tracing::warn!(%error, "cannot write to standard output");
    }
    supervisor::ready_as(&format!("bridging {} and {server}", client.server()));
}

// --- from the kcpq server to NATS ---

async fn to_nats(
    shared: &Shared,
    client: &Client,
    uplink: &Uplink,
    subscription: &mut Subscription,
) -> Result<(), Failure> {
    loop {
        shared.look_at(subscription);
        // While NATS has enough, what comes waits in the subscription, which is bounded.
        if !shared.may_send().await {
            continue;
        }
        let next = async { Some(subscription.next().await) };
        let tick = async {
            Timer::after(LOOK).await;
            None
        };
        match or(next, tick).await {
            Some(Some(message)) => shared.hand_up(client, uplink, &message),
            Some(None) => {
                return Err(Failure::Error("the kcpq server has ended the subscription: see the log".into()));
            }
            None => {}
        }
    }
}

// --- the end ---

/// Lets nothing more come, hands over what waits, and says how it was.
async fn finish(
    shared: &Shared,
    client: &Client,
    uplink: Arc<Uplink>,
    monitoring: Option<Http>,
    linger: Duration,
    carried: Carried,
    mut down: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    tracing::info!("stopping");
    supervisor::stopping(linger + linger);
    let (subscription, failed) = match carried {
        Ok(subscription) => (subscription, None),
        Err(failure) => (None, Some(failure)),
    };
    let over = || async {
        Timer::after(linger).await;
    };
    let up = async {
        if let Some(mut subscription) = subscription {
            // That the server knows of it is not waited for.
            drop(subscription.drain());
            let rest = async {
                while let Some(message) = subscription.next().await {
                    while !shared.may_send().await {}
                    shared.hand_up(client, &uplink, &message);
                }
            };
            or(rest, over()).await;
            shared.look_at(&subscription);
        }
        shared.counters.to_nats.close();
        smol::unblock(move || drop(monitoring)).await;
        match Arc::into_inner(uplink) {
            Some(uplink) => smol::unblock(move || uplink.end()).await,
            None => None,
        }
    };
    // Meanwhile the other way goes on.
    let on = async {
        down.as_mut().await;
        pending().await
    };
    let last = or(up, on).await;
    // All that NATS had sent is in the queue now.
    shared.queue.close();
    let rest = async {
        down.await;
        let _ = client.flush().patient().await;
    };
    or(rest, over()).await;
    shared.counters.to_kcpq.close();
    let closed = client.close().within(linger).await;
    if let Some(last) = last.as_ref().filter(|last| last.stats.waiting > 0) {
        tracing::warn!(messages = last.stats.waiting, "NATS is not there, and what waited for it is lost");
    }
    shared.log(last);
    match (failed, closed) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => {
            tracing::warn!(%error, "the session with the kcpq server");
            Ok(())
        }
        (None, Ok(())) => Ok(()),
    }
}

/// What becomes of the connection to the kcpq server goes to the log.
async fn tell(mut events: Events, shared: Arc<Shared>) {
    let mut is_away = false;
    while let Some(event) = events.next().await {
        match event {
            Event::Connected { native } | Event::Reconnected { native } => {
                is_away = false;
                tracing::info!(native, "the kcpq server is there");
                if !native && shared.to_nats.iter().any(|pattern| &**pattern == ">") {
                    tracing::warn!(
                        "to an original server > alone is no wildcard and matches nothing: name what it begins with, as in a.>"
                    );
                }
            }
            Event::Disconnected { why, .. } if !is_away => {
                is_away = true;
                tracing::warn!(%why, "the kcpq server is not there: it is tried again and again");
            }
            Event::Unresolved { why, .. } => tracing::warn!(%why, "the name of the kcpq server is not known"),
            Event::InDoubt { messages } => shared.counters.in_doubt.add(messages),
            Event::TooLarge { messages, .. } => shared.counters.to_kcpq.refused.add(messages),
            Event::SubscriptionLost { pattern, why } => {
                tracing::error!(%pattern, %why, "the kcpq server has ended a subscription");
            }
            Event::Denied { subject } => {
                shared.counters.complaints.add(1);
                tracing::warn!(%subject, "the kcpq server does not permit to publish there");
            }
            Event::Refused { text } => {
                shared.counters.complaints.add(1);
                tracing::warn!(text, "the kcpq server refuses something");
            }
            _ => {}
        }
    }
}

/// Waits for a signal that ends the program; at SIGHUP `reread` is called, and at the user's `tell`.
async fn end_by_signal(signals: &mut Signals, mut reread: impl FnMut(), tell: impl Fn()) {
    loop {
        match signals.next().await {
            Some(Ok(signal)) if signals::ends(signal) => return,
            Some(Ok(Signal::Hup)) => reread(),
            Some(Ok(Signal::Usr1 | Signal::Usr2)) => tell(),
            Some(Ok(signal)) => tracing::info!(?signal, "no use for this signal"),
            Some(Err(error)) => tracing::error!(%error, "cannot wait for signals"),
            None => return pending().await,
        }
    }
}

async fn end_by_failure(failure: &Receiver<()>) -> Result<(), Failure> {
    match failure.recv().await {
        Ok(()) => Err(Failure::Error("a thread of the bridge has failed".into())),
        Err(_) => pending().await,
    }
}
