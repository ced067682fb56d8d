//! The bridge, from its start until a signal comes or something fails.

use std::io::{self, Write};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_io::Timer;
use async_signal::{Signal, Signals};
use event_listener::Event as Changed;
use futures_lite::StreamExt;
use futures_lite::future::{or, pending};
use kcpq_smol::{Bytes, Client, ConnectionState, Event, Events, Message, PublishError, PublishRefusal, Subscription};
use kcpq_std_server::{BackboneView, Heard, Uplink, Upward};
use smol::channel::Receiver;

use super::Bridge;
use super::counters::{Counters, Way};
use super::http::Http;
use super::map::{self, INBOX, Map, Rule};
use super::queue::{Queue, Waiting};
use super::trail::{self, Crossed, Echoes, HEADER};
use crate::nats::Crossing;
use crate::serve::flood::Flood;
use crate::serve::{http as monitoring, supervisor};
use crate::{Failure, signals};

/// So many bytes are under way to NATS before no more is read from the kcpq server.
const AHEAD: isize = 1 << 20;
/// Messages that may wait for that, and bytes of them, unless more may wait while NATS is away.
const MESSAGES: usize = 1 << 20;
const BURST: usize = 8 << 20;
/// How often counters are looked at that others keep.
const LOOK: Duration = Duration::from_millis(500);

/// What both directions know.
#[derive(Debug)]
pub(super) struct Shared {
    link: String,
    map: Map,
    /// Of what the kcpq server gives back.
    to_nats: Vec<Box<str>>,
    pub(super) counters: Counters,
    pub(super) queue: Queue,
    echoes: Mutex<Echoes>,
    /// It was told that there is another way beside this one.
    is_warned: AtomicBool,
    /// Bytes under way to NATS, and that they have become fewer. It may be told of these before it is told how many they are.
    ahead: AtomicIsize,
    placed: Changed,
}

impl Bridge {
    /// Carries messages until a signal comes.
    pub(super) fn carry(self, flood: &Flood) -> Result<(), Failure> {
        // Before anything can happen, so that a signal is never missed.
        let mut signals = signals::of_a_server()?;
        let first = self.server.first()?;
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
        };
        let backbone = self.nats.backbone("kcpq bridge", crossing, self.linger)?;
        let backbone = backbone.ok_or_else(|| Failure::Error("no NATS server is named: give --nats".into()))?;
        let buffer = backbone.buffer;
        let shared = Arc::new(Shared {
            link: self.link.unwrap_or_else(|| first.to_string()),
            map: Map::new(self.map),
            to_nats: self.to_nats,
            counters: Counters::default(),
            queue: Queue::new(self.kcpq_buffer),
            echoes: Mutex::default(),
            is_warned: AtomicBool::new(false),
            ahead: AtomicIsize::new(0),
            placed: Changed::new(),
        });
        let listener = self.monitoring.as_deref().map(|addr| monitoring::listen(addr, self.http_open)).transpose();
        let listener = listener.map_err(Failure::Error)?;
        let builder = self.server.builder("kcpq bridge")?;
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
                end_by_signal(&mut signals, || shared.log(uplink.view())).await;
                Ok(())
            };
            let ends = or(or(signal, end_by_failure(&failure)), async { match flood.watch().await {} });
            // One message is in its hands, whoever looks at it.
            let mut down = pin!(to_kcpq(&shared, &client));
            let carried = carry(&shared, &client, &uplink, buffer, ends, down.as_mut()).await;
            let lasts = finish(&shared, &client, uplink, monitoring, self.linger, carried, down);
            let again = async {
                end_by_signal(&mut signals, || ()).await;
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

impl Shared {
    /// Counters that the subscription keeps.
    fn look_at(&self, subscription: &Subscription) {
        let (stats, way) = (subscription.stats(), &self.counters.to_nats);
        way.received.set(stats.received);
        way.full.set(stats.dropped);
        way.expired.set(stats.expired);
    }

    /// Waits for a moment for that NATS takes more; false if it does not.
    async fn may_send(&self) -> bool {
        if self.ahead.load(Relaxed) < AHEAD {
            return true;
        }
        let placed = self.placed.listen();
        // It may have become so since.
        if self.ahead.load(Relaxed) < AHEAD {
            return true;
        }
        let tick = async {
            Timer::after(LOOK).await;
        };
        or(placed, tick).await;
        self.ahead.load(Relaxed) < AHEAD
    }

    /// Hands a message to NATS, unless it comes from there.
    fn hand_up(&self, client: &Client, uplink: &Uplink, message: &Message) {
        let way = &self.counters.to_nats;
        if !self.crosses(way, message.subject(), message.headers().iter()) {
            return;
        }
        if !client.is_native() && self.echoes().is_back(Instant::now(), message.subject(), message.payload()) {
            return way.returned.add(1);
        }
        let reply = message.reply_to().map(|reply| self.map.to_nats(reply));
        let published = uplink.publish(Upward {
            subject: &self.map.to_nats(message.subject()),
            reply: reply.as_deref(),
            headers: message.headers().iter().chain([(HEADER, &*self.link)]),
            payload: message.payload(),
            ttl: message.left(),
        });
        match published {
            Ok(bytes) => {
                self.ahead.fetch_add(bytes.cast_signed(), Relaxed);
                way.passed.add(1);
            }
            Err(_) => way.refused.add(1),
        }
    }

    /// True if a message with these headers may cross; otherwise it is counted. An answer is for one, who is at the other side,
    /// and may have the headers of the request.
    fn crosses<'h>(&self, way: &Way, subject: &str, headers: impl Iterator<Item = (&'h str, &'h str)>) -> bool {
        match trail::crossed(&self.link, headers) {
            Crossed::Not => return true,
            Crossed::This if subject.starts_with(INBOX) => return true,
            Crossed::This => way.returned.add(1),
            Crossed::TooMany => way.looped.add(1),
        }
        false
    }

    fn echoes(&self) -> MutexGuard<'_, Echoes> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- from NATS to the kcpq server ---

    /// Takes in what comes from NATS, on the uplink's thread.
    fn hear(&self, what: Heard<'_>) {
        match what {
            Heard::Placed(bytes) => {
                self.ahead.fetch_sub(bytes.cast_signed(), Relaxed);
                self.placed.notify(usize::MAX);
            }
            Heard::Message { properties, .. } if properties.has_nobody() => self.counters.nobody.add(1),
            Heard::Message { subject, payload, properties, lane, expires } => {
                let way = &self.counters.to_kcpq;
                way.received.add(1);
                if !self.crosses(way, subject, properties.headers()) {
                    if !self.is_warned.swap(true, Relaxed) {
                        tracing::warn!(
                            subject,
                            link = self.link,
                            "a message that has crossed this link comes from NATS: another bridge stands beside this one, or the kcpq \
                             server has a backbone there; it goes no further, but others may have each message twice"
                        );
                    }
                    return;
                }
                let headers = properties.headers().chain([(HEADER, &*self.link)]);
                way.full.add(self.queue.push(Waiting {
                    subject: self.map.to_kcpq(subject).into(),
                    reply: properties.reply().map(|reply| self.map.to_kcpq(reply).into()),
                    headers: headers.map(|(name, value)| (name.into(), value.into())).collect(),
                    payload: Bytes::copy_from_slice(payload),
                    lane,
                    latest: properties.supersedes(),
                    expires,
                }));
            }
            _ => {}
        }
    }

    /// A line with all sums.
    fn log(&self, view: Option<BackboneView>) {
        let Counters { to_nats, to_kcpq, stripped, in_doubt, nobody, complaints } = &self.counters;
        let stats = view.unwrap_or_default().stats;
        tracing::info!(
            %to_nats,
            %to_kcpq,
            stripped = stripped.get(),
            in_doubt = in_doubt.get(),
            nobody = nobody.get(),
            complaints = complaints.get(),
            handed_to_nats = stats.messages_out,
            dropped_away = stats.dropped_away,
            dropped_too_large = stats.dropped_too_large,
            in_doubt_at_nats = stats.in_doubt,
            "carried"
        );
    }
}

/// Publishes what comes from NATS, in its order, as the kcpq server takes it; until the queue is closed and empty.
async fn to_kcpq(shared: &Shared, client: &Client) {
    let way = &shared.counters.to_kcpq;
    while let Some(waiting) = shared.queue.next().await {
        // What waits here makes room for what is newer; what waits in the client does not.
        if client.watch().wait_for(ConnectionState::is_connected).await.is_none() {
            continue; // closed: it is counted at the end
        }
        match publish(shared, client, &waiting).await {
            Published::Yes => way.passed.add(1),
            Published::Expired => way.expired.add(1),
            Published::Refused(why) => {
                tracing::warn!(subject = &*waiting.subject, %why, "a message from NATS is nothing for the kcpq server");
                way.refused.add(1);
            }
            Published::Closed => {}
        }
    }
}

enum Published {
    Yes,
    Expired,
    Refused(PublishRefusal),
    Closed,
}

async fn publish(shared: &Shared, client: &Client, waiting: &Waiting) -> Published {
    let Waiting { subject, reply, headers, payload, lane, latest, expires } = waiting;
    let is_native = client.is_native();
    if !is_native && map::any_fits(&shared.to_nats, subject) {
        shared.echoes().note(Instant::now(), subject, payload);
    }
    loop {
        let ttl = expires.map(|at| at.saturating_duration_since(Instant::now()));
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Published::Expired;
        }
        let mut publish = client.publish(subject, payload).lane(*lane);
        if is_native {
            publish = publish.headers(headers.iter().map(|(name, value)| (&**name, &**value)));
            if let Some(reply) = reply {
                publish = publish.reply_to(reply);
            }
        }
        if *latest {
            publish = publish.latest();
        }
        if let Some(ttl) = ttl {
            publish = publish.ttl(ttl);
        }
        match publish.await {
            Ok(()) => {
                // Its own header nobody misses.
                let has_more = reply.is_some() || headers.len() > 1;
                shared.counters.stripped.add(u64::from(!is_native && has_more));
                return Published::Yes;
            }
            // A slow server: what waits behind it makes room.
            Err(PublishError::TimedOut { .. }) => {}
            Err(PublishError::Refused(PublishRefusal::Closed)) => return Published::Closed,
            Err(PublishError::Refused(why)) => return Published::Refused(why),
            Err(_) => return Published::Closed,
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

/// Waits for a signal that ends the program; at others `at_other` is called.
async fn end_by_signal(signals: &mut Signals, at_other: impl Fn()) {
    loop {
        match signals.next().await {
            Some(Ok(signal)) if signals::ends(signal) => return,
            Some(Ok(Signal::Hup | Signal::Usr1 | Signal::Usr2)) => at_other(),
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
