//! What must hold, whatever happens (PROTOCOL.md 6): looked at with each thing that a client tells.

use std::collections::{HashMap, HashSet};

use kcpq_core::client::{ConfirmFailure, RequestFailure};
use kcpq_core::time::Instant;

use crate::end::{Got, How};
use crate::keys::Shows;
use crate::message::{self, Id};
use crate::rules::{Policy, matches};

/// A rule is broken.
macro_rules! broken {
    ($rule:literal, $($what:tt)*) => { panic!("{}: {}", $rule, format!($($what)*)) };
}
pub(crate) use broken;

/// A message that a client has taken for sending.
pub(crate) struct Sent {
    pub(crate) subject: String,
    pub(crate) at: Instant,
    pub(crate) len: usize,
    pub(crate) header: bool,
    /// It was published while its client had no connection, and so may have been sent in the first datagrams of one.
    pub(crate) early: bool,
    /// It is to be kept as the last value.
    pub(crate) retain: bool,
    /// Only the latest of its subject counts.
    pub(crate) state: bool,
    /// Sessions that have got it, and queue groups.
    pub(crate) copies: u32,
    /// The server said that so many have it.
    pub(crate) confirmed: Option<u32>,
    /// It answers this request.
    pub(crate) answers: Option<Id>,
}

/// A subscription.
pub(crate) struct Sub {
    pub(crate) node: usize,
    /// Which of the node's processes has it.
    pub(crate) life: u32,
    pub(crate) id: u32,
    pub(crate) pattern: String,
    pub(crate) how: How,
    /// Neither given up nor failed.
    pub(crate) alive: bool,
    pub(crate) acked: bool,
    seen: HashSet<Id>,
    /// The last message of each publisher, of each subject where there is no order between them, and when it came.
    last: HashMap<(usize, Option<String>), (u32, Instant)>,
    /// The newest value of each publisher and subject that is or was kept, and when it came.
    newest: HashMap<(usize, String), (u32, Instant)>,
    /// In which connection the last kept value of a subject came.
    kept_in: HashMap<String, u32>,
}

#[derive(Default)]
struct Wait {
    id: Option<Id>,
    replies: u32,
    got: u32,
    over: bool,
}

#[derive(Default)]
pub(crate) struct Oracle {
    /// By publisher.
    pub(crate) sent: Vec<Vec<Sent>>,
    pub(crate) subs: Vec<Sub>,
    by_id: HashMap<(usize, u32, u32), usize>,
    /// Who may do what, from when on.
    pub(crate) policies: Vec<(Instant, Policy)>,
    pub(crate) shows: Vec<Shows>,
    /// When a client has lost a connection, or its process.
    losses: Vec<Vec<Instant>>,
    /// When the server was started again.
    pub(crate) restarts: Vec<Instant>,
    /// When a client got another address.
    pub(crate) moves: Vec<(usize, Instant)>,
    got_by_node: HashSet<(usize, Id)>,
    got_by_group: HashSet<(&'static str, Id)>,
    confirms: HashMap<(usize, u32, u32), Wait>,
    requests: HashMap<(usize, u32, u32), Wait>,
    pub(crate) delivered: u64,
}

impl Oracle {
    pub(crate) fn new(shows: Vec<Shows>) -> Self {
        Self {
            sent: shows.iter().map(|_| Vec::new()).collect(),
            losses: shows.iter().map(|_| Vec::new()).collect(),
            shows,
            policies: vec![(Instant::ZERO, Policy::OPEN)],
            ..Self::default()
        }
    }

    /// The name of the next message of a client.
    pub(crate) fn upcoming(&self, node: usize) -> Id {
        Id { node, number: self.sent[node].len() as u32 }
    }

    pub(crate) fn sent(&self, id: Id) -> Option<&Sent> {
        self.sent.get(id.node)?.get(id.number as usize)
    }

    pub(crate) fn on_confirm_wanted(&mut self, who: (usize, u32, u32), id: Id) {
        self.confirms.insert(who, Wait { id: Some(id), ..Wait::default() });
    }

    pub(crate) fn on_request(&mut self, who: (usize, u32, u32), id: Id, replies: u32) {
        self.requests.insert(who, Wait { id: Some(id), replies, ..Wait::default() });
    }

    pub(crate) fn on_subscribe(&mut self, node: usize, life: u32, id: u32, pattern: &str, how: How) {
        self.by_id.insert((node, life, id), self.subs.len());
        self.subs.push(Sub {
            node,
            life,
            id,
            pattern: pattern.into(),
            how,
            alive: true,
            acked: false,
            seen: HashSet::new(),
            last: HashMap::new(),
            newest: HashMap::new(),
            kept_in: HashMap::new(),
        });
    }

    pub(crate) fn sub(&mut self, node: usize, life: u32, id: u32) -> Option<&mut Sub> {
        self.by_id.get(&(node, life, id)).map(|index| &mut self.subs[*index])
    }

    /// Subscriptions that a process has.
    pub(crate) fn subs_of(&self, node: usize, life: u32) -> impl Iterator<Item = &Sub> {
        self.subs.iter().filter(move |sub| sub.node == node && sub.life == life && sub.alive)
    }

    pub(crate) fn on_loss(&mut self, node: usize, at: Instant) {
        self.losses[node].push(at);
        for sub in self.subs.iter_mut().filter(|sub| sub.node == node) {
            sub.acked = false;
        }
    }

    /// A process is gone, and with it all that it waited for.
    pub(crate) fn on_death(&mut self, node: usize, life: u32, at: Instant) {
        self.on_loss(node, at);
        self.subs.iter_mut().filter(|sub| sub.node == node && sub.life == life).for_each(|sub| sub.alive = false);
        self.confirms.retain(|(of, in_life, _), _| (*of, *in_life) != (node, life));
        self.requests.retain(|(of, in_life, _), _| (*of, *in_life) != (node, life));
    }

    /// Whether a client has lost a connection between two moments.
    fn has_lost(&self, node: usize, from: Instant, to: Instant) -> bool {
        self.losses[node].iter().any(|at| from <= *at && *at <= to)
    }

    /// Whether something was so at some time between two moments.
    fn was_so(&self, from: Instant, to: Instant, what: impl Fn(&Policy) -> bool) -> bool {
        let ends = self.policies.iter().skip(1).map(|(at, _)| *at).chain([Instant::MAX]);
        self.policies.iter().zip(ends).any(|((at, policy), end)| *at <= to && end >= from && what(policy))
    }

    /// What a message is, if it is whole and what was published.
    fn recognise(&self, got: &Got) -> Id {
        let Some(id) = message::read(&got.payload) else {
            broken!("altered", "{} bytes on {} are no message that was published", got.payload.len(), got.subject);
        };
        let Some(sent) = self.sent(id) else { broken!("altered", "{id:?} was never published") };
        if sent.subject != got.subject || sent.len != got.payload.len() {
            broken!("altered", "{id:?} came on {} and was published to {}", got.subject, sent.subject);
        }
        let header = sent.header.then(|| id.number.to_string());
        if got.header.is_some() && got.header != header {
            broken!("altered", "{id:?} came with the header {:?}, not {header:?}", got.header);
        }
        id
    }

    /// A message has come for a subscription.
    pub(crate) fn on_message(&mut self, now: Instant, who: (usize, u32, u32), connection: u32, got: &Got) -> Id {
        let (node, id) = (who.0, self.recognise(got));
        let Some(index) = self.by_id.get(&who).copied() else {
            broken!("stranger", "{id:?} came for a subscription that was never made");
        };
        let (sub, sent) = (&self.subs[index], &self.sent[id.node][id.number as usize]);
        if !sub.alive {
            broken!("stranger", "{id:?} came for subscription {who:?}, which is over");
        }
        if !matches(&sub.pattern, &got.subject) {
            broken!("stranger", "{id:?} on {} came for {}", got.subject, sub.pattern);
        }
        let (shows, publisher) = (self.shows[node], self.shows[id.node]);
        if !self.was_so(sent.at, now, |policy| policy.may_receive(shows, &got.subject)) {
            broken!("permission", "{id:?} on {} came to {node}, which may not have it", got.subject);
        }
        if !self.was_so(sent.at, now, |policy| policy.may_publish(publisher, &got.subject)) {
            broken!("permission", "{id:?} on {} came to {node}, and may not be published", got.subject);
        }
        self.delivered += 1;
        if got.kept.is_some() {
            self.on_kept(now, index, connection, id);
        } else {
            self.on_live(now, index, id);
        }
        id
    }

    fn on_live(&mut self, now: Instant, index: usize, id: Id) {
        let sent = &self.sent[id.node][id.number as usize];
        let (subject, at, state) = (sent.subject.clone(), sent.at, sent.state);
        let keeps = sent.retain || subject.starts_with("auto.");
        // Before its session has a name a client that sends its first datagrams again from another address opens another one,
        // and so does a copy of them that was on its way while the server was started again (PROTOCOL.md 6).
        let moved = || self.moves.iter().any(|(node, moved)| *node == id.node && *moved >= at);
        let again = sent.early && (moved() || self.restarts.iter().any(|restart| *restart >= at));
        let sub = &self.subs[index];
        let (node, how) = (sub.node, sub.how);
        if again && sub.seen.contains(&id) {
            return;
        }
        if sub.seen.contains(&id) {
            broken!("once", "{id:?} came twice for {} of {node} ({how:?})", sub.pattern);
        }
        // What a client has asked for is only as good as the subscriptions that the server knows: as long as one to the
        // latest comes or goes there is no order between subjects.
        let life = sub.life;
        let latest = self.subs.iter().any(|sub| (sub.node, sub.life, sub.how) == (node, life, How::Latest));
        let about = (id.node, (latest || state).then(|| subject.clone()));
        // What waited for a member of a group that has left comes later, to another.
        if let Some((last, last_at)) = sub.last.get(&about).copied()
            && last > id.number
            && !matches!(how, How::Group(_))
            && !again
            && !self.has_lost(id.node, at, last_at)
        {
            broken!("order", "{id:?} came to {node} after number {last} ({how:?} {})", sub.pattern);
        }
        let is_copy = match how {
            How::Group(group) => {
                if !self.got_by_group.insert((group, id)) && !again {
                    broken!("once", "{id:?} came to two members of group {group}, the second is {node}");
                }
                true
            }
            _ => self.got_by_node.insert((node, id)),
        };
        let sub = &mut self.subs[index];
        sub.seen.insert(id);
        let last = sub.last.entry(about).or_insert((id.number, now));
        *last = if id.number >= last.0 { (id.number, now) } else { *last };
        if keeps {
            sub.saw_newest(now, id, subject);
        }
        let sent = &mut self.sent[id.node][id.number as usize];
        sent.copies += u32::from(is_copy);
        sent.check_copies(id);
    }

    fn on_kept(&mut self, now: Instant, index: usize, connection: u32, id: Id) {
        let (sent, sub) = (&self.sent[id.node][id.number as usize], &self.subs[index]);
        let subject = sent.subject.clone();
        if !sent.retain && !subject.starts_with("auto.") {
            broken!("kept", "{id:?} came as the last value of {subject}, and was not to be kept");
        }
        if !matches!(sub.how, How::Every | How::Latest) {
            broken!("kept", "{id:?} came as the last value of {subject} for {:?} {}", sub.how, sub.pattern);
        }
        if sub.kept_in.get(&subject) == Some(&connection) {
            broken!("kept", "{id:?} is the second last value of {subject} for {} of {}", sub.pattern, sub.node);
        }
        if let Some((newest, at)) = sub.newest.get(&(id.node, subject.clone())).copied()
            && newest > id.number
            && !self.has_lost(id.node, sent.at, at)
            && !self.restarts.iter().any(|restart| *restart >= at)
        {
            broken!("kept", "{id:?} came as the last value of {subject} to {} after number {newest}", sub.node);
        }
        let sub = &mut self.subs[index];
        sub.kept_in.insert(subject.clone(), connection);
        sub.saw_newest(now, id, subject);
    }

    /// The server said what became of a message.
    pub(crate) fn on_confirmed(&mut self, who: (usize, u32, u32), outcome: Result<u32, ConfirmFailure>) {
        let Some(wait) = self.confirms.get_mut(&who) else {
            broken!("confirm", "{who:?} was told of a message that it did not ask about");
        };
        if std::mem::replace(&mut wait.over, true) {
            broken!("confirm", "{who:?} was told twice");
        }
        if let (Ok(count), Some(id)) = (outcome, wait.id) {
            let sent = &mut self.sent[id.node][id.number as usize];
            sent.confirmed = Some(count);
            sent.check_copies(id);
        }
    }

    /// An answer has come. Its own name.
    pub(crate) fn on_reply(&mut self, who: (usize, u32, u32), got: &Got, last: bool) -> Id {
        let id = self.recognise(got);
        let answers = self.sent(id).and_then(|sent| sent.answers);
        let Some(wait) = self.requests.get_mut(&who) else {
            broken!("request", "{id:?} came as an answer to a request that {who:?} did not make");
        };
        if wait.over || answers != wait.id {
            broken!("request", "{id:?} answers {answers:?} and came for {:?}", wait.id);
        }
        wait.got += 1;
        wait.over = last;
        if last != (wait.got == wait.replies) {
            broken!("request", "answer {} of {} to {who:?}, last: {last}", wait.got, wait.replies);
        }
        id
    }

    pub(crate) fn on_request_failed(&mut self, who: (usize, u32, u32), why: RequestFailure) {
        match self.requests.get_mut(&who) {
            Some(wait) if !wait.over => wait.over = true,
            _ => broken!("request", "{who:?} failed, which nobody waits for: {why}"),
        }
    }

    /// Whether somebody of a group has got a message.
    pub(crate) fn has_group(&self, group: &'static str, id: Id) -> bool {
        self.got_by_group.contains(&(group, id))
    }

    /// Whether a client has left queue groups in any of its connections: what waited for it then goes to others, and its
    /// session has counted it.
    pub(crate) fn has_left_groups(&self, node: usize) -> bool {
        self.subs.iter().any(|sub| sub.node == node && !sub.alive && matches!(sub.how, How::Group(_)))
    }

    /// Nobody waits for anything any more.
    pub(crate) fn check_over(&self) {
        for (kind, waits) in [("confirm", &self.confirms), ("request", &self.requests)] {
            if let Some((who, wait)) = waits.iter().find(|(_, wait)| !wait.over) {
                broken!("told", "{who:?} was never told of its {kind} {:?}", wait.id);
            }
        }
    }
}

impl Sub {
    pub(crate) fn has(&self, id: Id) -> bool {
        self.seen.contains(&id)
    }

    fn saw_newest(&mut self, now: Instant, id: Id, subject: String) {
        let newest = self.newest.entry((id.node, subject)).or_insert((id.number, now));
        *newest = if id.number >= newest.0 { (id.number, now) } else { *newest };
    }
}

impl Sent {
    fn check_copies(&self, id: Id) {
        if let Some(count) = self.confirmed
            && self.copies > count
        {
            broken!("confirm", "{id:?} came to {}, and its publisher was told {count}", self.copies);
        }
    }
}
