//! What a SUB of what is stored does, and MSGACK (PROTOCOL.md 3.15).

use alloc::format;

use super::{Dispatch, push};
use crate::broker::peer::Peer;
use crate::broker::presence::{SUBSCRIBED, UNSUBSCRIBED};
use crate::broker::replays::{Ask, Key, Known, MAX};
use crate::broker::session::Me;
use crate::broker::shards::Told;
use crate::broker::turn;
use crate::frame::{Frame, command};
use crate::hello::{Ack, Refusal, Subscribe};
use crate::outbox::HeapOutbox;
use crate::replay::{MsgAck, Start, is_durable};
use crate::subject::Pattern;

impl<P: Peer> Dispatch<'_, P> {
    /// A SUB of what is stored, by a session that may subscribe to the pattern. It is answered when the gateway knows whether
    /// it begins.
    pub(super) fn subscribe_stored(&mut self, record: &Subscribe<'_>, pattern: Pattern<'_>) {
        let Subscribe { number, lane, group, stored, durable, .. } = *record;
        let start = match (stored, durable) {
            _ if self.hub.shards.gateway().is_none() => {
                return self.refuse(
                    Some(number),
                    Refusal::StoreRefused,
                    "nothing is stored here: there is no backbone",
                );
            }
            _ if group.is_some() => {
                let text = "what is stored is not for queue groups: durable subscriptions of one name share it";
                return self.refuse(Some(number), Refusal::InvalidPattern, text);
            }
            (_, Some(name)) if !is_durable(name) => {
                let text = "the name of a durable subscription is 1 to 32 characters of A-Z, a-z, 0-9, - and _";
                return self.refuse(Some(number), Refusal::InvalidPattern, text);
            }
            (None | Some(Start::Other(_)), _) => {
                return self.refuse(Some(number), Refusal::StoreRefused, "it is not known where it is to begin");
            }
            _ if !self.me.member.outlet.is_extended() => {
                let text = "what is stored is for clients that know properties of messages";
                return self.refuse(Some(number), Refusal::InvalidPattern, text);
            }
            (Some(start), _) => start,
        };
        let replays = self.me.member.replays.get_or_insert_default();
        match replays.know(number, pattern.as_str(), durable) {
            Known::Open => return self.acknowledge(Some(number), "", pattern.as_str().as_bytes()),
            Known::Asked => return,
            Known::No => {}
        }
        // A number that is used again is another subscription's from here on.
        self.end_replay(number);
        let Self { cx, hub, me: Me { id, member, .. }, .. } = self;
        let limit = cx.max_subscriptions(member.pass.as_deref());
        let count = member.replays.as_ref().map_or(0, |replays| replays.len());
        if member.subscriptions() >= limit || count >= MAX {
            let limit = limit.min(MAX);
            let text = format!("too many subscriptions to what is stored: the limit is {limit} for each session");
            return self.refuse(Some(number), Refusal::TooManySubscriptions, &text);
        }
        let replays = member.replays.get_or_insert_default();
        let (serial, ask) = replays.open(number, pattern.as_str(), start, durable, lane.unwrap_or_default());
        member.unanswered += 1;
        cx.stats.subscriptions += 1;
        hub.shards.tell_gateway(Told::Ask { key: Key { session: *id, serial }, ask });
        cx.say_subscription(hub, SUBSCRIBED, (*id, member), pattern.as_str(), None);
    }

    /// Ends the one of this number. False if there is none.
    pub(super) fn end_replay(&mut self, number: u32) -> bool {
        let Self { cx, hub, me: Me { id, member, .. }, .. } = self;
        let removed = member.replays.as_mut().and_then(|replays| replays.remove(number));
        let Some((serial, pattern, was_open)) = removed else { return false };
        member.unanswered = member.unanswered.saturating_sub((!was_open).into());
        cx.stats.subscriptions -= 1;
        hub.shards.tell_gateway(Told::Ask { key: Key { session: *id, serial }, ask: Ask::End });
        cx.say_subscription(hub, UNSUBSCRIBED, (*id, member), &pattern, None);
        true
    }

    /// What is to become of a message. What is not known, or settled already, is passed over.
    pub(super) fn settle(&mut self, frame: Frame<'_>) {
        self.cx.turn.charge(turn::ENTRY);
        let Some(MsgAck { number, sequence, settlement }) = MsgAck::decode(frame.payload) else {
            return self.error("MSGACK is cut short, or of a kind that is not known");
        };
        let Self { hub, me: Me { id, member, .. }, .. } = self;
        if let Some(serial) = member.replays.as_ref().and_then(|replays| replays.durable(number)) {
            let key = Key { session: *id, serial };
            hub.shards.tell_gateway(Told::Ask { key, ask: Ask::Settle { sequence, settlement } });
        }
    }
}

/// The ACK of a subscription that has begun with this sequence.
pub(in crate::broker) fn begun(number: u32, first: u64) -> HeapOutbox {
    let mut answer = HeapOutbox::default();
    let ack = Ack { number, refusal: None }.encode();
    push(&mut answer, command::ACK, &[], &[&ack[..], &first.to_be_bytes()].concat());
    answer
}

/// The ACK of one that has not.
pub(in crate::broker) fn refused(number: u32, refusal: Refusal, text: &str) -> HeapOutbox {
    let mut answer = HeapOutbox::default();
    push(&mut answer, command::ACK, super::cut(text).as_bytes(), &Ack { number, refusal: Some(refusal) }.encode());
    answer
}
