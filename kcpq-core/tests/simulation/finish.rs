//! When nothing goes wrong any more, everything has to be well within a stated time, and all counters have to add up.

use std::collections::HashSet;

use kcpq_core::broker::{SessionCursor, SlowConsumer};
use kcpq_core::client::Overflow;
use kcpq_core::time::Duration;

use crate::end::{How, Order};
use crate::fleet::{lane_of_state, subjects, subjects_of_state};
use crate::keys::Shows;
use crate::message::{HEAD, Id};
use crate::oracle::{Sub, broken};
use crate::plan::Kind;
use crate::rules::matches;
use crate::world::{EACH, World};

/// All clients that live are connected, and subscribed, after this time.
const BACK: Duration = Duration::from_secs(120);
/// A client notices that its session is no more: its heartbeat, and the time for an answer.
const NOTICED: Duration = Duration::from_secs(25);
/// Who has not been heard for so long is not at its address any more.
const HEARD: Duration = Duration::from_secs(20);
/// A message is everywhere after this time.
const THERE: Duration = Duration::from_secs(10);
/// The server has forgotten those who are no more: its idle timeout, and what it waits for the last words.
const FORGOTTEN: Duration = Duration::from_secs(130);

pub(crate) fn finish(world: &mut World<'_>) {
    world.run_to(world.now + NOTICED);
    if !world.run_until(BACK, is_well) {
        let missing: Vec<String> = world.alive().into_iter().filter_map(|index| lacks(world, index)).collect();
        broken!("progress", "after {BACK} without faults: {}", missing.join("; "));
    }
    calm_down(world);
    let fresh = publish_everywhere(world, false);
    arrives(world, &fresh, |sub| !matches!(sub.how, How::Group(_)));
    let alive = world.alive().len();
    if !world.run_until(FORGOTTEN, |world| world.server.sessions() == alive) {
        broken!("ghosts", "{} sessions of {alive} clients after {FORGOTTEN}", world.server.sessions());
    }
    let fresh = publish_everywhere(world, true);
    arrives(world, &fresh, |_| true);
    world.run_to(world.now + Duration::from_secs(6));
    is_at_rest(world);
    world.oracle.check_over();
    counts_of_copies(world, &fresh);
    memory_is_free(world);
    if let Some(shard) = world.server.differs() {
        let refused = world.server.stats().kept_refused;
        broken!("kept", "shard {shard} has other last values than the first one; {refused} were refused");
    }
    counters_of_sessions(world);
    counters_of_clients(world);
    everybody_leaves(world);
}

fn lacks(world: &World<'_>, index: usize) -> Option<String> {
    let node = &world.nodes[index];
    let end = node.end.as_ref()?;
    if !end.is_connected() {
        return Some(format!("client {index} is not connected"));
    }
    let mut subs = world.oracle.subs_of(index, node.life);
    if let Some(sub) = subs.find(|sub| !sub.acked) {
        return Some(format!("client {index} has no {:?} {}", sub.how, sub.pattern));
    }
    (end.queued() > 0).then(|| format!("{} bytes wait in client {index}", end.queued()))
}

fn is_well(world: &World<'_>) -> bool {
    world.server.is_up()
        && world.nodes.iter().all(|node| !node.closing || node.end.is_none())
        && world.alive().into_iter().all(|index| lacks(world, index).is_none())
}

/// What is on its way arrives.
fn calm_down(world: &mut World<'_>) {
    let end = world.now + BACK;
    while let Some(waiting) = waits(world) {
        if world.now >= end {
            broken!("progress", "after {BACK} more {waiting}");
        }
        world.run_to(world.now + Duration::from_millis(500));
    }
    world.run_to(world.now + Duration::from_secs(2));
    world.to_answer.clear();
}

/// Nobody is in the middle of saying something: clients of the original have a heartbeat under way now and then.
fn is_at_rest(world: &mut World<'_>) {
    let waiting = |world: &World<'_>| {
        let queued = |index: usize| world.nodes[index].end.as_ref().map_or(0, |end| end.queued());
        world.alive().into_iter().map(|index| (index, queued(index))).find(|(_, bytes)| *bytes > 0)
    };
    if !world.run_until(THERE, |world| waiting(world).is_none()) {
        let (index, bytes) = waiting(world).unwrap_or_default();
        broken!("counters", "{bytes} bytes wait in client {index}, after {THERE} in which nobody published");
    }
}

/// What waits for a client that lives.
fn waits(world: &mut World<'_>) -> Option<String> {
    let now = world.server.clock.read(world.now);
    for broker in &mut world.server.brokers {
        for session in broker.view_sessions(now, SessionCursor::default(), 10_000).items {
            let node = world.nodes.iter().position(|node| node.addr == session.peer && node.end.is_some());
            if let Some(index) = node.filter(|_| session.queued + session.unacked > 0 && session.silent < HEARD) {
                return Some(format!("{} bytes wait for client {index}: {session:?}", session.queued));
            }
        }
    }
    None
}

/// Publishes a message to each subject, by somebody who may.
fn publish_everywhere(world: &mut World<'_>, confirm: bool) -> Vec<Id> {
    let alive = world.alive();
    let mut fresh = Vec::new();
    let state = world.plan.kinds.has(Kind::State).then(subjects_of_state).into_iter().flatten();
    for (turn, subject) in subjects().chain(state).enumerate() {
        let policy = &world.oracle.policies.last().expect("there is always one").1;
        let mut may = alive.iter().cycle().skip(turn).take(alive.len());
        let Some(index) = may.find(|index| policy.may_publish(world.shows(**index), &subject)).copied() else {
            continue;
        };
        let native = world.shows(index) != Shows::Original;
        let state = lane_of_state(&subject).filter(|_| native);
        let order = Order { subject, confirm: confirm && native && state.is_none(), state, ..Order::default() };
        let Some(id) = world.publish(index, order, HEAD, None) else {
            broken!(
                "progress",
                "client {index} takes no message although all is well: {:?}",
                world.nodes[index].end.as_ref().map(|end| end.queued())
            );
        };
        fresh.push(id);
        let pause = world.now + Duration::from_millis(1);
        world.run_to(pause);
    }
    fresh
}

/// Who is to get a message: subscriptions, and groups.
fn wanted<'w>(world: &'w World<'_>, id: Id) -> impl Iterator<Item = &'w Sub> {
    let subject = &world.oracle.sent(id).expect("it was sent").subject;
    let policy = &world.oracle.policies.last().expect("there is always one").1;
    let alive: HashSet<(usize, u32)> =
        world.alive().into_iter().map(|index| (index, world.nodes[index].life)).collect();
    world.oracle.subs.iter().filter(move |sub| {
        sub.alive
            && alive.contains(&(sub.node, sub.life))
            && matches(&sub.pattern, subject)
            && policy.may_receive(world.shows(sub.node), subject)
    })
}

fn arrives(world: &mut World<'_>, fresh: &[Id], which: impl Fn(&Sub) -> bool) {
    let missing = |world: &World<'_>| {
        fresh.iter().find_map(|id| {
            let lacks = |sub: &&Sub| match sub.how {
                How::Group(group) => !world.oracle.has_group(group, *id),
                _ => !sub.has(*id),
            };
            let sub = wanted(world, *id).filter(|sub| which(sub)).find(lacks)?;
            let subject = &world.oracle.sent(*id)?.subject;
            Some(format!("{id:?} on {subject} is not there for {:?} {} of {}", sub.how, sub.pattern, sub.node))
        })
    };
    if !world.run_until(THERE, |world| missing(world).is_none()) {
        broken!("delivery", "{THERE} after it was published: {}", missing(world).unwrap_or_default());
    }
}

/// What publishers were told is right.
fn counts_of_copies(world: &World<'_>, fresh: &[Id]) {
    for id in fresh {
        let sent = world.oracle.sent(*id).expect("it was sent");
        let sessions: HashSet<usize> =
            wanted(world, *id).filter(|sub| !matches!(sub.how, How::Group(_))).map(|sub| sub.node).collect();
        let groups: HashSet<&str> = wanted(world, *id)
            .filter_map(|sub| match sub.how {
                How::Group(group) => Some(group),
                _ => None,
            })
            .collect();
        let expected = (sessions.len() + groups.len()) as u32;
        if sent.copies != expected || sent.confirmed.is_some_and(|count| count != expected) {
            let (copies, confirmed) = (sent.copies, sent.confirmed);
            broken!("confirm", "{id:?} is for {expected}, came to {copies}, and was confirmed for {confirmed:?}");
        }
    }
}

/// Nothing waits, so nothing is held.
fn memory_is_free(world: &World<'_>) {
    let (mut queued, mut received) = (0, 0);
    for broker in &world.server.brokers {
        queued += broker.stats().queued;
        received += broker.stats().received;
    }
    let sessions = world.server.sessions() as u64;
    if queued > 0 || received > sessions * EACH {
        broken!("memory", "{queued} bytes are queued and {received} received at rest, with {sessions} sessions");
    }
}

/// What was queued for a session has come to its client, or is counted.
fn counters_of_sessions(world: &mut World<'_>) {
    let drops_oldest = world.server.config.slow_consumer == SlowConsumer::DropOldest;
    let now = world.server.clock.read(world.now);
    for broker in &mut world.server.brokers {
        for session in broker.view_sessions(now, SessionCursor::default(), 10_000).items {
            let Some(index) = world.nodes.iter().position(|node| node.addr == session.peer) else {
                broken!("counters", "a session at {}, where no client is", session.peer);
            };
            let node = &world.nodes[index];
            let Some(end) = &node.end else { continue };
            let messages = session.messages;
            let gone = messages.superseded
                + messages.expired
                + messages.dropped_stuck
                + if drops_oldest { messages.dropped_slow } else { 0 };
            let stats = end.stats();
            let came = end.came() - node.before.received;
            if messages.messages_out - gone != came && !world.oracle.has_left_groups(index) {
                broken!("counters", "client {index} received {came} messages, and its session has {messages:?}");
            }
            // Who reads late hears late of its loss, and what it has sent since counts with what it had sent before.
            let sent = stats.messages_acknowledged - node.before.acknowledged;
            let known = node.make.shows != Shows::Original && !world.plan.kinds.has(Kind::Stuck);
            if known && sent != messages.messages_in + messages.refused + session.transport.superseded {
                broken!(
                    "counters",
                    "{sent} messages of client {index} were acknowledged, its session has {messages:?}"
                );
            }
        }
    }
}

/// What a client has taken it has sent, or counts.
fn counters_of_clients(world: &World<'_>) {
    for index in world.alive() {
        let Some(end) = &world.nodes[index].end else { continue };
        let stats = end.stats();
        // The newest one is not even put in the queue.
        let put_in = world.nodes[index].make.overflow != Overflow::DropNewest;
        let gone = stats.expired
            + stats.superseded
            + stats.dropped_in_doubt
            + if put_in { stats.dropped_overflow } else { 0 }
            + u64::from(stats.dropped_too_large);
        if stats.messages_sent != stats.messages_acknowledged + gone {
            broken!("counters", "client {index} has nothing waiting, and {stats:?}");
        }
        let unlikely = (stats.malformed, stats.oversize);
        if unlikely != (0, 0) {
            broken!("counters", "client {index} met malformed or oversize frames: {unlikely:?}");
        }
    }
}

fn everybody_leaves(world: &mut World<'_>) {
    for index in world.alive() {
        let node = &mut world.nodes[index];
        node.closing = true;
        if let Some(end) = &mut node.end {
            end.close(node.clock.read(world.now));
        }
    }
    let gone = |world: &World<'_>| world.server.sessions() == 0 && world.nodes.iter().all(|node| node.end.is_none());
    // Clients of the original vanish without a word.
    let within = if world.plan.kinds.has(Kind::Original) { FORGOTTEN } else { THERE };
    if !world.run_until(within, gone) {
        broken!("progress", "{} sessions are left {within} after all clients closed", world.server.sessions());
    }
    world.run_to(world.now + Duration::from_secs(1));
    for broker in &world.server.brokers {
        let stats = broker.stats();
        let left = (broker.patterns(), stats.subscriptions, stats.native_sessions, stats.queued, stats.received);
        if left != (0, 0, 0, 0, 0) {
            broken!("memory", "patterns, subscriptions, native sessions, queued, received after all left: {left:?}");
        }
    }
}
