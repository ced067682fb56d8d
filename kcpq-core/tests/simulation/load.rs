//! What the programs of the clients do.

use fastrand::Rng;
use kcpq_core::time::Duration;

use crate::end::{How, Order};
use crate::fleet::{lane_of_state, subject, subscription};
use crate::keys::Shows;
use crate::message::{self, Id};
use crate::oracle::Sent;
use crate::plan::Kind;
use crate::world::World;

impl World<'_> {
    /// Subscribes a client.
    pub(crate) fn subscribe(&mut self, index: usize, pattern: &str, how: How) {
        let node = &mut self.nodes[index];
        let (life, local) = (node.life, node.clock.read(self.now));
        let Some(end) = &mut node.end else { return };
        let asked = end.subscribe(local, pattern, how);
        self.trace(|| format!("client {index} subscribes: {asked:?} {pattern} {how:?}"));
        if let Ok(id) = asked {
            self.oracle.on_subscribe(index, life, id, pattern, how);
        }
    }

    /// Publishes a message of this length. Its name, if the client has taken it.
    pub(crate) fn publish(&mut self, index: usize, mut order: Order, len: usize, answers: Option<Id>) -> Option<Id> {
        let id = self.oracle.upcoming(index);
        let node = &mut self.nodes[index];
        let (life, local) = (node.life, node.clock.read(self.now));
        order.payload = message::write(id, len);
        if order.header.is_some() {
            order.header = Some(id.number.to_string());
        }
        let early = !node.end.as_ref()?.is_connected();
        let published = node.end.as_mut()?.publish(local, &order);
        self.trace(|| {
            let Order { subject, ttl, retain, confirm, replies, .. } = &order;
            format!(
                "client {index}: {published:?} {id:?} {subject} {len} bytes, {ttl:?} {retain} {confirm} {replies:?}"
            )
        });
        let number = match published {
            Ok(number) => number,
            Err(why) => {
                self.tally.count(&format!("refused: {}", why.split(':').next().unwrap_or_default()));
                return None;
            }
        };
        self.oracle.sent[index].push(Sent {
            len: order.payload.len(),
            subject: order.subject,
            at: self.now,
            early,
            header: order.header.is_some(),
            retain: order.retain,
            state: order.state.is_some(),
            copies: 0,
            confirmed: None,
            answers,
        });
        if let Some(replies) = order.replies {
            self.oracle.on_request((index, life, number), id, replies);
        } else if order.confirm {
            self.oracle.on_confirm_wanted((index, life, number), id);
        }
        Some(id)
    }

    /// A client does something.
    pub(crate) fn work(&mut self, index: usize, rng: &mut Rng) {
        let has = |kind| self.plan.kinds.has(kind);
        match rng.u8(..20) {
            0 if has(Kind::Churn) => {
                let (pattern, how) = subscription(&self.plan, rng);
                let life = self.nodes[index].life;
                if self.oracle.subs_of(index, life).count() < 6 {
                    self.subscribe(index, &pattern, how);
                }
            }
            1 if has(Kind::Churn) => {
                let life = self.nodes[index].life;
                let ids: Vec<u32> = self.oracle.subs_of(index, life).map(|sub| sub.id).collect();
                if let Some(id) = rng.choice(ids) {
                    self.unsubscribe(index, id);
                }
            }
            2 => {
                let node = &mut self.nodes[index];
                if let Some(end) = &mut node.end {
                    end.flush(node.clock.read(self.now));
                }
            }
            3..=4 if has(Kind::Request) => {
                let order = Order {
                    subject: format!("req.{}", rng.u8(..3)),
                    replies: Some(rng.u32(1..3)),
                    header: has(Kind::Headers).then(String::new),
                    ..Order::default()
                };
                self.publish(index, order, rng.usize(12..200), None);
            }
            _ => {
                let (most, greedy) = (if has(Kind::Flood) { 60 } else { 4 }, has(Kind::Greedy));
                for _ in 0..rng.u32(1..=most) {
                    self.publish_something(index, rng);
                }
                if greedy && rng.u8(..8) == 0 {
                    for _ in 0..rng.u32(500..2_500) {
                        self.publish(index, Order { subject: "s.1.1".into(), ..Order::default() }, 20, None);
                    }
                }
            }
        }
    }

    pub(crate) fn unsubscribe(&mut self, index: usize, id: u32) {
        let node = &mut self.nodes[index];
        let (life, local) = (node.life, node.clock.read(self.now));
        if let Some(end) = &mut node.end {
            end.unsubscribe(local, id);
        }
        self.trace(|| format!("client {index} unsubscribes {id}"));
        if let Some(sub) = self.oracle.sub(index, life, id) {
            sub.alive = false;
        }
    }

    fn publish_something(&mut self, index: usize, rng: &mut Rng) {
        let has = |kind| self.plan.kinds.has(kind);
        let subject = subject(&self.plan, rng);
        // Some secrets are last values as well, which not everybody may have.
        let keeps = subject.starts_with("kept.") || subject.starts_with("secret.") && has(Kind::Retain);
        let retain = keeps && rng.u8(..3) > 0;
        let state = lane_of_state(&subject).filter(|_| self.nodes[index].make.shows != Shows::Original);
        let order = Order {
            retain,
            state,
            ttl: (has(Kind::Ttl) && rng.u8(..3) == 0).then(|| Duration::from_millis([5, 100, 3_000][rng.usize(..3)])),
            header: (has(Kind::Headers) && rng.u8(..3) == 0).then(String::new),
            confirm: state.is_none() && has(Kind::Confirm) && rng.u8(..3) == 0,
            subject,
            ..Order::default()
        };
        let len = match rng.u8(..20) {
            0 if has(Kind::Large) => rng.usize(20_000..300_000),
            1..=3 => rng.usize(1_000..8_000),
            _ => rng.usize(12..300),
        };
        self.publish(index, order, len, None);
    }

    /// Gives the answers that are due.
    pub(crate) fn answer(&mut self) {
        for (index, subject, request) in std::mem::take(&mut self.to_answer) {
            if self.is_alive(index) {
                self.publish(index, Order { subject, ..Order::default() }, 40, Some(request));
            }
        }
    }
}
