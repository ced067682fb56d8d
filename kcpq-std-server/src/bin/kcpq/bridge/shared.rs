//! What both directions of a bridge know, and what becomes of each message: whether it crosses, what it is called on the other
//! side, and how it is counted.

use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_io::Timer;
use event_listener::Event as Changed;
use futures_lite::future::or;
use kcpq_smol::{Bytes, Client, Message, Subscription};
use kcpq_std_server::{BackboneView, Heard, Uplink, Upward};

use super::counters::{Counters, Way};
use super::map::{INBOX, Map};
use super::queue::{Queue, Waiting};
use super::trail::{self, Crossed, Echoes, HEADER};

/// So many bytes are under way to NATS before no more is read from the kcpq server.
const AHEAD: isize = 1 << 20;
/// How often counters are looked at that others keep.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// What both directions know.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) link: String,
    map: Map,
    /// Of what the kcpq server gives back.
    pub(super) to_nats: Vec<Box<str>>,
    pub(super) counters: Counters,
    pub(super) queue: Queue,
    echoes: Mutex<Echoes>,
    /// It was told that there is another way beside this one.
    is_warned: AtomicBool,
    /// Bytes under way to NATS, and that they have become fewer. It may be told of these before it is told how many they are.
    ahead: AtomicIsize,
    placed: Changed,
}

impl Shared {
    pub(super) fn new(link: String, map: Map, to_nats: Vec<Box<str>>, kcpq_buffer: usize) -> Self {
        Self {
            link,
            map,
            to_nats,
            counters: Counters::default(),
            queue: Queue::new(kcpq_buffer),
            echoes: Mutex::default(),
            is_warned: AtomicBool::new(false),
            ahead: AtomicIsize::new(0),
            placed: Changed::new(),
        }
    }

    // --- from the kcpq server to NATS ---

    /// Counters that the subscription keeps.
    pub(super) fn look_at(&self, subscription: &Subscription) {
        let (stats, way) = (subscription.stats(), &self.counters.to_nats);
        way.received.set(stats.received);
        way.full.set(stats.dropped);
        way.expired.set(stats.expired);
    }

    /// Waits for a moment for that NATS takes more; false if it does not.
    pub(super) async fn may_send(&self) -> bool {
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
    pub(super) fn hand_up(&self, client: &Client, uplink: &Uplink, message: &Message) {
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

    pub(super) fn echoes(&self) -> MutexGuard<'_, Echoes> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- from NATS to the kcpq server ---

    /// Takes in what comes from NATS, on the uplink's thread.
    pub(super) fn hear(&self, what: Heard<'_>) {
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
    pub(super) fn log(&self, view: Option<BackboneView>) {
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
