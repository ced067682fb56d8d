//! What is published beside the client is published as if it were there.

use super::*;
use crate::frame::Properties;
use crate::lane::Lane;

/// A publisher and a subscriber, and perhaps a stage.
struct Side {
    world: World<Heap>,
    id: SubscriptionId,
    stage: Option<Stage>,
    staged: u64,
}

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;

impl Side {
    fn new(stage: Option<Stage>, config: Config, link: sim::Config) -> Self {
        let mut world = World::new(broker::Config::default());
        world.add(config, link);
        world.add(Config::default(), CLEAN);
        let id = world.subscribe(SUBSCRIBER, ">");
        world.run_until("connection", |world| world.nodes[PUBLISHER].client.is_connected());
        Self { world, id, stage, staged: 0 }
    }

    fn client(&mut self) -> &mut Client<Heap> {
        &mut self.world.nodes[PUBLISHER].client
    }

    /// Does something with the client, as whoever holds its lock.
    fn locked<T>(&mut self, act: impl FnOnce(&mut Client<Heap>, Instant) -> T) -> T {
        let (client, now) = (&mut self.world.nodes[PUBLISHER].client, self.world.now);
        if let Some(stage) = &mut self.stage {
            stage.shut();
            client.take_staged(stage);
            assert!(stage.is_empty());
        }
        let done = act(client, now);
        if let Some(stage) = &mut self.stage {
            client.open_stage(stage, usize::MAX);
        }
        done
    }

    fn stage(&mut self, subject: &str, payload: &[u8]) -> bool {
        let taken = self.stage.as_mut().is_some_and(|stage| match payload.len() % 2 {
            0 => stage.publish(subject, payload),
            _ => stage.publish_bytes(subject, &payload.to_vec().into()),
        });
        self.staged += u64::from(taken);
        taken
    }

    fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        if self.stage(subject, payload) {
            return Ok(());
        }
        self.locked(|client, now| client.publish(now, subject, payload))
    }

    fn run_for(&mut self, span: Duration) {
        self.locked(|_, _| {});
        self.world.run_for(span);
        self.locked(|_, _| {});
    }

    fn payloads(&self) -> Vec<&[u8]> {
        self.world.nodes[SUBSCRIBER].log.payloads(self.id)
    }
}

const SUBJECTS: [&str; 8] = ["a", "a", "a", "b.c", "a..b", "", "a.*", "$KCPQ.a"];

/// One thing that a user may do, the same for both; it says what came of it.
fn act(side: &mut Side, rng: &mut Rng) -> String {
    let subject = *rng.choice(&SUBJECTS).unwrap();
    let len = match rng.u8(..20) {
        0 => rng.usize(4_000..9_000),
        1 => 30_000,
        2 => 10_000_000,
        _ => rng.usize(..300),
    };
    let payload = vec![rng.u8(..); len];
    let kind = rng.u8(..40);
    let span = Duration::from_millis(rng.u64(..20));
    let done = match kind {
        0 => side.locked(|client, now| client.publish_for(now, subject, &payload, span)),
        1 => {
            side.locked(|client, now| client.publish_in(now, Lane::NORMAL, subject, &payload, Properties::LATEST, None))
        }
        2 => side.locked(|client, now| client.publish_in(now, Lane::BULK, subject, &payload, Properties::NONE, None)),
        3 => {
            let before = side.locked(|client, now| client.flush(now));
            return alloc::format!("flush {before}");
        }
        4 => {
            side.run_for(span);
            Ok(())
        }
        _ => side.publish(subject, &payload),
    };
    let queued = side.locked(|client, _| client.queued());
    alloc::format!("{done:?} {queued}")
}

#[test]
fn with_a_stage_and_without_it_is_the_same() {
    let config = Config { queue: 20_000, ..Config::default() };
    let mut sides = [None, Some(Stage::default())].map(|stage| Side::new(stage, config, BAD));
    let mut rng = Rng::with_seed(0);
    for step in 0..2_000 {
        let seed_of_step = rng.u64(..);
        let [a, b] = sides.each_mut().map(|side| act(side, &mut Rng::with_seed(seed_of_step)));
        assert_eq!(a, b, "step {step}");
    }
    for side in &mut sides {
        side.run_for(Duration::from_secs(60));
    }
    let [a, b] = &mut sides;
    assert!(a.payloads() == b.payloads() && !a.payloads().is_empty());
    assert!(a.staged == 0 && b.staged > 500, "{}", b.staged);
    let logs = [&*a, &*b].map(|side| &side.world.nodes[PUBLISHER].log.events);
    assert_eq!(logs[0], logs[1]);
    // But for when what was acknowledged.
    let [a, b] = [a, b].map(|side| Stats { latency: Latency::default(), ..side.client().stats() });
    assert_eq!(alloc::format!("{a:?}"), alloc::format!("{b:?}"));
    assert!(a.publish_errors > 0 && a.messages_acknowledged > 0);
}

/// A side whose connection is lost while its stage is open.
fn cut_off(config: Config) -> Side {
    let mut side = Side::new(Some(Stage::default()), config, CLEAN);
    side.locked(|_, _| {});
    side.world.away = true;
    side.world.run_until("loss", |world| world.nodes[PUBLISHER].log.saw("Disconnected") > 0);
    side
}

#[test]
fn what_was_staged_before_a_loss_was_noticed_waits_for_the_next_connection() {
    let mut side = cut_off(Config::default());
    assert!((0..10u8).all(|n| side.stage("a", &[n; 2_000])));
    side.locked(|_, _| {});
    assert!(!side.stage("a", b"now it is known"), "whoever has the client decides what becomes of it");
    assert_eq!(side.client().queued(), 10 * (frame::HEAD + 1 + 2_000));
    side.world.restart(broker::Config::default());
    side.world.away = false;
    side.run_for(Duration::from_secs(60));
    assert_eq!(side.client().stats().dropped_in_doubt, 0);
    assert!(side.stage("a", b"more"), "it is open again");
    side.run_for(Duration::from_secs(1));
    let got: Vec<usize> = side.payloads().iter().map(|payload| payload.len()).collect();
    assert_eq!(got, [[2_000; 10].as_slice(), &[4]].concat());
}

#[test]
fn what_was_staged_and_is_too_long_for_the_next_server_is_dropped_and_counted() {
    let mut side = cut_off(Config::default());
    let frames = frame::Limits { max_body: 1_000, ..frame::Limits::KCPQ };
    side.world.restart(broker::Config { frames, ..broker::Config::default() });
    side.world.away = false;
    side.world.run_until("the next one", |world| world.nodes[PUBLISHER].client.is_connected());
    assert!(side.stage("a", &[1; 2_000]) && side.stage("a", &[2; 500]) && side.stage("a", &[3; 5_000]));
    side.run_for(Duration::from_secs(60));
    assert_eq!(side.payloads(), [&[2; 500]]);
    let stats = side.client().stats();
    assert_eq!((stats.dropped_too_large, stats.messages_sent, stats.connection_errors), (2, 3, 1));
    // From now on it is known.
    assert!(!side.stage("a", &[1; 2_000]) && side.stage("a", &[2; 500]));
}

#[test]
fn what_was_staged_when_its_client_ended_is_counted_as_lost() {
    let mut side = cut_off(Config { reconnect: None, ..Config::default() });
    assert!(side.stage("a", b"one") && side.stage("a", b"two"));
    let before = side.client().stats().lost_on_close;
    side.locked(|_, _| {});
    assert_eq!(side.client().stats().lost_on_close, before + 2);
    assert_eq!(side.publish("a", b"three"), Err(PublishError::Closed));
}

#[test]
fn no_more_is_staged_than_there_is_room_for() {
    const FRAME: usize = frame::HEAD + 1 + 100;
    let mut side = Side::new(Some(Stage::default()), Config { queue: 10 * FRAME, ..Config::default() }, CLEAN);
    assert!(!Stage::default().publish("a", b"shut at first"));
    side.locked(|client, now| client.publish(now, "a", &[0; 100])).unwrap();
    assert!((0..9).all(|_| side.stage("a", &[0; 100])) && !side.stage("a", b"one more"));
    let client = &mut side.world.nodes[PUBLISHER].client;
    let stage = side.stage.as_mut().unwrap();
    // Opened anew with something in it.
    client.open_stage(stage, usize::MAX);
    assert!(!stage.publish("a", b"one more"));
    assert_eq!((stage.len(), client.take_staged(stage), client.queued()), (9 * FRAME, 9, 10 * FRAME));
    side.run_for(Duration::from_secs(1));
    let (client, stage) = (&mut side.world.nodes[PUBLISHER].client, side.stage.as_mut().unwrap());
    client.open_stage(stage, 2 * FRAME + 1);
    assert!(stage.publish("a", &[0; 100]) && stage.publish("a", &[0; 100]) && !stage.publish("a", b""));
}
