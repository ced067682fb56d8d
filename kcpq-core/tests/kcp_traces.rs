//! The engine against step-by-step traces of kcp-go's state machine. See `common/recording.rs` for what is compared.

#[path = "common/engine.rs"]
mod engine;
#[path = "common/json.rs"]
mod json;
#[path = "common/recording.rs"]
mod recording;

use kcpq_core::kcp::{Command, Config, Kcp, Mode, Origin, Rtt};
use kcpq_core::store::{Heap, Lent, Store};
use kcpq_core::{Duration, Instant};
use serde_json::Value;

use self::engine::Make;
use self::json::{hex, list, number, text};
use self::recording::{Segment, config, input, recorded, recv, transmit};

const TRACES: &str = include_str!("vectors/kcp_traces.json");
const NOW: Instant = Instant::from_millis(1_000);

/// The traces of one name, from both recorded versions.
fn traces(name: &str) -> Vec<Value> {
    let vectors = json::parse(TRACES);
    let versions = list(&vectors["versions"]).iter();
    let found: Vec<_> =
        versions.flat_map(|version| list(&version["traces"])).filter(|trace| trace["name"] == name).cloned().collect();
    assert!(!found.is_empty(), "no trace {name}");
    found
}

const CONV: u32 = 0x0a0b_0c0d;

/// Plays one endpoint's steps of a trace against an engine: what kcp-go was given is given to it at the same times,
/// and what is due is asked for where kcp-go flushed. `after` sees each step, the engine, and what it sent.
fn replay<S: Store>(
    kcp: &mut Kcp<S>,
    trace: &Value,
    endpoint: &str,
    mut after: impl FnMut(&Value, &Kcp<S>, Vec<Vec<Segment>>),
) {
    for step in list(&trace["steps"]).iter().filter(|step| step["ep"] == endpoint) {
        let now = Instant::from_millis(number(&step["t"]));
        let mut sent = Vec::new();
        match text(&step["op"]) {
            "send" => kcp.send(&hex(&step["data"])).unwrap(),
            "input" => {
                let origin = if step["regular"] == true { Origin::Wire } else { Origin::Rebuilt };
                kcp.handle_datagram(now, &hex(&step["data"]), origin, |_| 0).unwrap();
                // Version 5.6.1 flushes within the input when `una` moved; to send at once is our way, too.
                if !list(&step["out"]).is_empty() {
                    sent = transmit(kcp, now);
                }
            }
            "recv" => {
                let got = recv(kcp, now);
                assert_eq!(got.as_ref().map_or(-1, |message| message.len() as i64), step["ret"].as_i64().unwrap());
                assert!(got.is_none_or(|message| message == hex(&step["data"])));
            }
            "flush" => sent = transmit(kcp, now),
            other => panic!("no operation {other}"),
        }
        after(step, kcp, sent);
    }
}

fn expect_state<S: Store>(kcp: &Kcp<S>, step: &Value) {
    let state = &step["state"];
    assert_eq!(kcp.in_flight() as u64, number(&state["n_snd_buf"]), "{step}");
    assert_eq!(u64::from(kcp.remote_window()), number(&state["rmt_wnd"]), "{step}");
    assert_eq!(kcp.unsent() == 0, number(&state["n_snd_queue"]) == 0, "{step}");
}

/// Replays one endpoint and expects the very segments in the very steps.
fn replay_exactly<S: Make>(trace: &Value, endpoint: &str, config: Config) {
    let mut kcp = S::engine(CONV, config);
    replay(&mut kcp, trace, endpoint, |step, kcp, sent| {
        assert_eq!(sent, recorded(CONV, &step["out"]), "{}: {step}", trace["name"]);
        expect_state(kcp, step);
    });
}

#[test]
fn streams_acknowledgements_and_rebuilt_datagrams_follow_the_traces() {
    for (name, mode) in [("stream_mode", Mode::Stream), ("recovered_packet_rules", Mode::Message)] {
        for trace in traces(name) {
            let config = Config { mode, ..config(&trace["params"]["A"]) };
            replay_exactly::<Heap>(&trace, "A", config);
            replay_exactly::<Lent<'static>>(&trace, "A", config);
        }
    }
    for name in ["fast_resend", "early_retransmit"] {
        for trace in traces(name) {
            for endpoint in ["A", "B"] {
                let config = config(&trace["params"][endpoint]);
                replay_exactly::<Heap>(&trace, endpoint, config);
                replay_exactly::<Lent<'static>>(&trace, endpoint, config);
            }
        }
    }
}

#[test]
fn a_rebuilt_datagram_gives_no_sample_and_no_window() {
    for trace in traces("recovered_packet_rules") {
        let mut kcp = Heap::engine(CONV, config(&trace["params"]["A"]));
        replay(&mut kcp, &trace, "A", |step, kcp, _| {
            let srtt = number(&step["state"]["srtt"]);
            assert_eq!(kcp.rtt().smoothed(), (srtt > 0).then(|| Duration::from_millis(srtt)), "{step}");
            assert_eq!(kcp.rtt().rto(), Duration::from_millis(number(&step["state"]["rx_rto"])), "{step}");
        });
    }
}

#[test]
fn the_sample_is_that_of_the_last_acknowledgement_in_a_datagram() {
    for trace in traces("multi_ack_datagram") {
        let mut kcp = Heap::engine(CONV, config(&trace["params"]["A"]));
        replay(&mut kcp, &trace, "A", |step, kcp, _| {
            let srtt = number(&step["state"]["srtt"]);
            assert_eq!(kcp.rtt().smoothed(), (srtt > 0).then(|| Duration::from_millis(srtt)), "{step}");
            assert_eq!(kcp.in_flight() as u64, number(&step["state"]["n_snd_buf"]), "{step}");
        });
        // Which segment goes out again between the two inputs is the same, but version 5.4.20 sends it at the flush
        // behind the input; when is its timing.
        let want: Vec<_> = list(&trace["steps"]).iter().flat_map(|step| recorded(CONV, &step["out"])).collect();
        let mut kcp = Heap::engine(CONV, config(&trace["params"]["A"]));
        let mut all = Vec::new();
        replay(&mut kcp, &trace, "A", |_, _, sent| all.extend(sent));
        assert_eq!(all, want);
    }
}

#[test]
fn timers_back_off_as_in_the_traces() {
    for name in ["rto_backoff_nodelay1", "rto_backoff_nodelay0"] {
        for trace in traces(name) {
            let mut kcp = Heap::engine(CONV, config(&trace["params"]["A"]));
            let sent: Vec<_> = list(&trace["steps"]).iter().filter(|step| step["op"] == "flush").collect();
            // With congestion control, kcp-go's first flush sends nothing (docs/original.md 3.4), hence counted from
            // the first that does.
            let mut now = Instant::from_millis(number(&sent[0]["t"]));
            kcp.send(&hex(&trace["steps"][0]["data"])).unwrap();
            for step in sent {
                assert_eq!(now, Instant::from_millis(number(&step["t"])), "{name}");
                assert_eq!(transmit(&mut kcp, now), recorded(CONV, &step["out"]), "{name} at {now:?}");
                now = kcp.poll_timeout().unwrap().at;
            }
        }
    }
}

#[test]
fn a_closed_window_is_probed_as_in_the_trace() {
    for trace in traces("zero_window_probe") {
        let mut kcp = Heap::engine(CONV, config(&trace["params"]["A"]));
        let steps = list(&trace["steps"]);
        let mut now = Instant::ZERO;
        for step in steps {
            let at = Instant::from_millis(number(&step["t"]));
            match text(&step["op"]) {
                "input" => {
                    now = at;
                    input(&mut kcp, now, &hex(&step["data"])).unwrap();
                }
                "send" => {
                    kcp.send(&hex(&step["data"])).unwrap();
                    assert!(transmit(&mut kcp, now).is_empty());
                }
                _ => {
                    if kcp.remote_window() == 0 {
                        now = kcp.poll_timeout().unwrap().at;
                    }
                    // kcp-go rounds each wait down to a millisecond.
                    assert!(now.since(at) < Duration::from_millis(10) && at <= now, "{now:?} for {at:?}");
                    assert_eq!(transmit(&mut kcp, now), recorded(CONV, &step["out"]), "{step}");
                }
            }
        }
        assert_eq!(kcp.in_flight(), 1, "the data went out in the end");
    }
}

#[test]
fn the_congestion_window_grows_as_in_the_trace() {
    // The two versions differ in how the window grows past the threshold; ours is the newer one's rule.
    let trace = &traces("congestion_window")[0];
    let mut b = Lent::engine(CONV, config(&trace["params"]["B"]));
    // kcp-go's window is 0 until its first flush has ended, so there the first flush sends nothing; B has nothing to
    // say to the first either.
    let mut kcp = Heap::engine(CONV, config(&trace["params"]["A"]));
    let mut skipped = false;
    for step in list(&trace["steps"]).iter().filter(|step| step["ep"] == "A") {
        let now = Instant::from_millis(number(&step["t"]));
        match text(&step["op"]) {
            "send" => kcp.send(&hex(&step["data"])).unwrap(),
            "input" => input(&mut kcp, now, &hex(&step["data"])).unwrap(),
            _ if !skipped => {
                skipped = true;
                continue;
            }
            _ => {}
        }
        if text(&step["op"]) != "send" {
            assert_eq!(transmit(&mut kcp, now), recorded(CONV, &step["out"]), "{step}");
            expect_state(&kcp, step);
        }
    }
    assert_eq!(kcp.unacked(), 0);
    replay(&mut b, trace, "B", |step, _, sent| {
        assert_eq!(sent, recorded(CONV, &step["out"]), "{step}");
    });
}

#[test]
fn the_receive_window_holds_and_refuses_as_in_the_trace() {
    for trace in traces("receive_window") {
        let config = config(&trace["params"]["B"]);
        let mut kcp = Heap::engine(CONV, config);
        let mut full = false;
        for step in list(&trace["steps"]) {
            let now = Instant::from_millis(number(&step["t"]));
            if text(&step["op"]) == "input" && full {
                // From here on kcp-go stores and acknowledges a second window's worth behind the unread one. Here
                // `wnd` is the truth about the memory: segments beyond it are refused.
                let refused = kcp.stats().refused;
                input(&mut kcp, now, &hex(&step["data"])).unwrap();
                assert_eq!(kcp.stats().refused, refused + 1);
                assert!(transmit(&mut kcp, now).is_empty());
                break;
            }
            match text(&step["op"]) {
                "input" => input(&mut kcp, now, &hex(&step["data"])).unwrap(),
                "recv" => assert_eq!(recv(&mut kcp, now), None),
                _ => {
                    assert_eq!(transmit(&mut kcp, now), recorded(CONV, &step["out"]), "{step}");
                    full = true;
                }
            }
        }
        // Read out: the messages of the trace, the window told, an old segment acknowledged again.
        assert_eq!(recv(&mut kcp, NOW).as_deref(), Some(&b"abc"[..]));
        let sent = transmit(&mut kcp, NOW);
        assert_eq!((sent[0][0].command, sent[0][0].wnd, sent[0][0].una), (Command::WindowUpdate, 3, 4));
        assert_eq!(recv(&mut kcp, NOW).as_deref(), Some(&b"d"[..]));
        let old = list(&trace["steps"]).iter().rfind(|step| step["op"] == "input").unwrap();
        input(&mut kcp, NOW, &hex(&old["data"])).unwrap();
        let sent = transmit(&mut kcp, NOW);
        assert_eq!((sent[0][0].command, sent[0][0].sn, sent[0][0].wnd, sent[0][0].una), (Command::Ack, Some(0), 4, 4));
        assert_eq!(recv(&mut kcp, NOW), None, "old data are not delivered again");
    }
}

#[test]
fn round_trip_times_are_estimated_as_in_the_traces() {
    let samples = [0, 5, 5, 20, 100, 100, 3, 3, 3, 500, 40, 40, 40, 40, 1_000, 30_000, 70_000, 1, 1];
    let found = traces("rtt_estimation");
    assert_eq!(found.len(), 8, "four sets of parameters, two versions");
    for trace in found {
        // The estimator does not care what a tick is: here a microsecond stands for the recording's millisecond.
        let tick = Duration::from_micros;
        let params = &trace["params"]["A"];
        let interval = tick(number(&params["interval"]));
        let least = tick(if number(&params["nodelay"]) != 0 { 30 } else { 100 });
        let mut rtt = Rtt::new();
        let inputs = list(&trace["steps"]).iter().filter(|step| step["op"] == "input");
        let mut count = 0;
        for (step, sample) in inputs.zip(samples) {
            // kcp-go limits the timeout to 60 s, we the sample as well. So that the sample of 70 s is the same, the
            // limit is set there, and the timeout cut to the recording's afterwards.
            rtt.sample(tick(sample), interval, least, tick(70_000));
            let state = &step["state"];
            let want = ["srtt", "rttvar", "rx_rto"].map(|name| number(&state[name]));
            let got = [rtt.smoothed().unwrap(), rtt.rttvar(), rtt.rto().min(tick(60_000))].map(Duration::as_micros);
            assert_eq!(got, want, "after sample {sample} of {params}");
            count += 1;
        }
        assert_eq!(count, samples.len());
    }
}
