//! Presence and last wills in several brokers.

use super::*;
use crate::broker::{Audience, Presence};
use crate::client::Will;

fn watched() -> Config {
    Config { presence: Presence { audience: Audience::Everybody, ..Presence::default() }, ..Config::default() }
}

impl Server {
    /// Lets so many seconds pass.
    fn live(&mut self, seconds: u32) {
        for _ in 0..seconds * 2 {
            self.pass(Duration::from_millis(500));
            self.carry_all();
        }
    }

    /// The subjects of what an end has got.
    fn heard(&mut self, end: usize, id: SubscriptionId) -> Vec<String> {
        let got = self.ends[end].values.remove(&id).unwrap_or_default();
        got.into_iter().map(|(subject, ..)| subject).collect()
    }

    fn subscribe(&mut self, end: usize, pattern: &str) -> SubscriptionId {
        let id = self.ends[end].client.subscribe(self.now, pattern).unwrap();
        self.live(1);
        assert!(self.ends[end].acknowledged.contains(&id));
        id
    }
}

#[test]
fn what_happens_at_any_shard_is_said_once_to_the_watchers_at_all() {
    let mut server = Server::new(3, &[0, 1, 2, 1], &watched());
    let ids = [0, 1].map(|end| (end, server.subscribe(end, "$KCPQ.>")));
    for (end, id) in ids {
        server.heard(end, id);
    }
    let sub = server.subscribe(2, "a.b");
    server.ends[2].client.unsubscribe(server.now, sub);
    server.live(1);
    server.ends[3].client.close(server.now);
    server.live(1);
    for broker in &mut server.brokers {
        broker.drain(server.now);
    }
    server.settle();
    server.live(1);
    for (end, id) in ids {
        // Who is still there when others end hears of that as well.
        let heard = server.heard(end, id);
        let said = ["session.subscribed.-", "session.unsubscribed.-", "session.closed.-", "server.stopping"];
        assert_eq!(heard[..4], said.map(|event| format!("$KCPQ.{event}")), "{heard:?}");
        assert!(heard[4..].iter().all(|event| event == "$KCPQ.session.closed.-"), "{heard:?}");
    }
}

#[test]
fn where_nobody_watches_nothing_is_said() {
    let mut server = Server::new(2, &[0, 1], &watched());
    server.subscribe(0, ">");
    server.subscribe(1, "*.x");
    assert_eq!(server.sum(|stats| stats.presence + stats.presence_missed), 0);
    // One who leaves again leaves nothing behind at the other shard.
    let id = server.subscribe(0, "$KCPQ.session.>");
    assert!(server.sum(|stats| stats.presence) > 0);
    server.ends[0].client.unsubscribe(server.now, id);
    server.live(1);
    let before = server.sum(|stats| stats.presence);
    server.subscribe(1, "y");
    assert_eq!(server.sum(|stats| stats.presence), before);
}

#[test]
fn a_will_reaches_all_shards_and_is_void_when_its_client_comes_back_at_another_one() {
    let will = Will { subject: "gone", payload: b"somebody", retain: false };
    for comes_back in [true, false] {
        let mut server = Server::new(2, &[0, 1, 1], &Config::default());
        let ids = [0, 2].map(|end| (end, server.subscribe(end, "gone")));
        server.ends[1].client.set_will(server.now, will).unwrap();
        server.live(1);
        assert_eq!(server.brokers[1].stats().wills, 1);
        if comes_back {
            // Its first session is not ended, and the second one is opened where the system sends its datagrams.
            server.ends[1].deaf = true;
            server.live(110);
            server.ends[1].deaf = false;
            server.ends[1].home = 0;
            server.ends[1].client.reconnect(server.now);
            server.live(1);
            assert_eq!((server.brokers[0].stats().wills, server.brokers[1].stats().wills), (1, 0));
            server.live(30);
        } else {
            server.ends[1].deaf = true;
            server.live(130);
        }
        for (end, id) in ids {
            assert_eq!(server.heard(end, id).len(), usize::from(!comes_back), "{comes_back}");
        }
    }
}
