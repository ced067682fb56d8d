//! Last values of which another broker may not know, since what told it of them was lost on the way; or the gateway, which is told of
//! them in no other way.
//!
//! A value goes to the other brokers among the messages that they are told (see [`kept`](crate::broker::kept)), and a message
//! may be dropped before it is there: it was too old, or too much waited. Subscribers miss that one, which is counted; but
//! nothing more may come of the subject for long, and until then the other broker would give an older value to who
//! subscribes there. So it is noted of which subjects something was put on the way, and if anything was lost these are told
//! again once the way is free: no messages then, but how it is with the subject now.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use super::Told;
use crate::broker::context::Context;
use crate::broker::kept::Kept;
use crate::broker::outlet::Outlet;
use crate::outbox::Queues;
use crate::store::Heap;
use crate::time::Duration;

/// See above.
#[derive(Default)]
pub(super) struct Owed {
    /// The last stamp of ours of each subject of which something was put on the way since nothing waited there.
    subjects: BTreeMap<Box<str>, u64>,
    /// Messages that had been lost then.
    lost: u64,
    /// It is told of all, whether anything was lost or not.
    all: bool,
}

impl Owed {
    /// Who this is for hears of no value otherwise.
    pub(super) fn tell_all(&mut self) {
        self.all = true;
    }

    /// See [`tell_all`](Self::tell_all).
    pub(super) fn tells_all(&self) -> bool {
        self.all
    }

    /// A value of a subject, or that there is none any more, has this stamp and was put on the way, or dropped before.
    pub(super) fn note(&mut self, subject: &str, stamp: u64) {
        match self.subjects.get_mut(subject) {
            Some(last) => *last = stamp,
            None => drop(self.subjects.insert(subject.into(), stamp)),
        }
    }

    /// How it is with the next of the subjects, once no message waits in `queue` that belongs before that, and as little of
    /// what was told as there is `appetite` for; or without heed to that, `at_once`.
    pub(super) fn poll<P>(
        &mut self,
        cx: &Context<P>,
        kept: &Kept,
        outlet: &mut Outlet,
        queue: &Queues<Heap>,
        at_once: bool,
    ) -> Option<Told> {
        if self.subjects.is_empty() || !queue.is_empty() {
            return None;
        }
        if !self.all && self.lost == outlet.lost() {
            self.subjects.clear();
            return None;
        }
        let own = cx.shard.0 as u8;
        // What others have published they tell themselves, in the order of their messages. To the gateway an older one is nothing.
        while let Some((subject, _)) = self.subjects.first_key_value().filter(|_| self.all)
            && kept.get(subject).is_some_and(|value| value.stamp.1 != own)
        {
            self.subjects.pop_first();
        }
        let (subject, _) = self.subjects.first_key_value()?;
        let value = kept.get(subject).filter(|value| value.stamp.1 == own && !value.is_over(cx.now));
        let frame = value.map(|value| value.frame.clone());
        if !at_once && !outlet.has_appetite(cx, queue, frame.as_ref().map_or(0, |frame| frame.len())) {
            return None;
        }
        let (subject, last) = self.subjects.pop_first()?;
        if self.subjects.is_empty() {
            self.lost = outlet.lost();
        }
        let (stamp, expires) = value.map_or((last, None), |value| (value.stamp.0, value.expires));
        let age = value.map_or(Duration::ZERO, |value| value.age(cx.now));
        outlet.sent(frame.as_ref().map_or(0, |frame| frame.len()));
        Some(Told::Value { subject, stamp, frame, expires, age })
    }
}
