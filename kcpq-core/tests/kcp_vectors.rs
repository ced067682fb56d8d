//! The engine against single segments that kcp-go sent, and how it answered others. See `common/recording.rs` for what
//! is compared.

#[path = "common/engine.rs"]
mod engine;
#[path = "common/json.rs"]
mod json;
#[path = "common/recording.rs"]
mod recording;

use kcpq_core::kcp::{Command, Config, HEADER, Header, Kcp, Malformed, Mode, SendError, Sn, Ts};
use kcpq_core::store::{Heap, Lent};
use kcpq_core::{Duration, Instant};
use serde_json::Value;

use self::engine::Make;
use self::json::{hex, list, number, text};
use self::recording::{Segment, config, input, recorded, recv, segments, transmit};

const SEGMENTS: &str = include_str!("vectors/kcp_segments.json");

fn scenario<'v>(vectors: &'v Value, name: &str) -> &'v Value {
    list(&vectors["scenarios"]).iter().find(|scenario| scenario["name"] == name).expect("a scenario of this name")
}

const NOW: Instant = Instant::from_millis(1_000);

#[test]
fn recorded_bytes_are_the_headers_they_were_decoded_to() {
    let vectors = json::parse(SEGMENTS);
    let mut count = 0;
    let mut check = |bytes: Vec<u8>, decoded: &Value| {
        let mut rest = &bytes[..];
        for want in list(decoded) {
            let conv = number(&want["conv"]) as u32;
            let (header, data, behind) = Header::split(rest, conv).unwrap();
            let command = match text(&want["cmd"]) {
                "PUSH" => Command::Push,
                "ACK" => Command::Ack,
                "WASK" => Command::WindowProbe,
                "WINS" => Command::WindowUpdate,
                other => panic!("no command {other}"),
            };
            assert_eq!(header.command, command);
            let fields = [
                u64::from(header.frg),
                u64::from(header.wnd),
                u64::from(header.ts.0),
                u64::from(header.sn.0),
                u64::from(header.una.0),
                u64::from(header.len),
            ];
            let names = ["frg", "wnd", "ts", "sn", "una", "len"];
            assert_eq!(fields, names.map(|name| number(&want[name])));
            assert_eq!(Header::peek(rest), Some((conv, header.sn)));
            assert_eq!(header.to_bytes(), rest[..HEADER]);
            assert_eq!(data.len(), header.len as usize);
            rest = behind;
            count += 1;
        }
        assert!(rest.is_empty());
    };
    for scenario in list(&vectors["scenarios"]) {
        for key in ["datagrams", "datagrams_when_full"] {
            for (bytes, decoded) in list(&scenario[key]).iter().zip(list(&scenario[format!("{key}_decoded")])) {
                check(hex(bytes), decoded);
            }
        }
        for event in list(&scenario["events"]) {
            check(hex(&event["hex"]), &event["decoded"]);
        }
    }
    assert!(count > 20, "{count} segments");
}

/// Runs a scenario of the form: take the inputs in, queue the messages, say what is due.
fn run_scenario<S: Make>(scenario: &Value) -> Kcp<S> {
    let name = text(&scenario["name"]);
    let params = &scenario["params"];
    let conv = 0x1122_3344;
    let config = if params.is_object() {
        config(params)
    } else {
        Config { mode: Mode::Message, recv_window: 1024, ..Config::GAMES }
    };
    let mut kcp = S::engine(conv, config);
    for datagram in list(&scenario["input"]) {
        input(&mut kcp, NOW, &hex(datagram)).unwrap();
    }
    if name == "zero_length_push" {
        // Listed is only the first, empty one of the two segments that the recorded answer acknowledges.
        let header =
            Header { sn: Sn(1), ts: Ts(5), len: 1, ..Header::split(&hex(&scenario["input"][0]), conv).unwrap().0 };
        input(&mut kcp, NOW, &[&header.to_bytes()[..], b"x"].concat()).unwrap();
    }
    let want = recorded(conv, &scenario["datagrams"]);
    let mut message = Vec::new();
    for segment in want.iter().flatten().filter(|segment| segment.command == Command::Push) {
        message.extend(&segment.data);
        if segment.frg == 0 {
            kcp.send(&message).unwrap();
            message.clear();
        }
    }
    // Datagram by datagram: kcp-go packs segments as we do in all of these.
    assert_eq!(transmit(&mut kcp, NOW), want, "{name}");
    kcp
}

fn scenarios_on<S: Make>() {
    let vectors = json::parse(SEGMENTS);
    for name in [
        "short_message",
        "message_3_fragments_mtu1400",
        "message_3_fragments_mtu64",
        "two_messages_one_datagram",
        "ack_plus_data_one_datagram",
        "window_tell_after_probe",
        "ack_and_wins_same_flush",
        "acks_out_of_order",
    ] {
        run_scenario::<S>(scenario(&vectors, name));
    }
    let ack = scenario(&vectors, "ack_of_short_message");
    let mut kcp = run_scenario::<S>(ack);
    assert_eq!(recv(&mut kcp, NOW), Some(hex(&ack["received_hex"])));

    let mut kcp = run_scenario::<S>(scenario(&vectors, "acks_of_3_fragments_in_order"));
    let message = hex(&scenario(&vectors, "message_3_fragments_mtu1400")["message_hex"]);
    assert_eq!(recv(&mut kcp, NOW), Some(message));

    // An empty message: taken and acknowledged like any other, and no obstacle to the next.
    let mut kcp = run_scenario::<S>(scenario(&vectors, "zero_length_push"));
    assert_eq!(kcp.message_len(), Some(0));
    while kcp.message_len().is_some() {
        recv(&mut kcp, NOW);
    }
}

#[test]
fn what_kcp_go_sent_in_a_scenario_is_sent_here() {
    scenarios_on::<Heap>();
    scenarios_on::<Lent<'static>>();
}

#[test]
fn a_message_is_readable_once_its_last_fragment_is_there() {
    let vectors = json::parse(SEGMENTS);
    let scenario = scenario(&vectors, "acks_of_3_fragments_in_order");
    let mut kcp = Heap::engine(number(&scenario["conv"]) as u32, config(&scenario["params"]));
    for (datagram, size) in list(&scenario["input"]).iter().zip(list(&scenario["peek_size_after_each"])) {
        input(&mut kcp, NOW, &hex(datagram)).unwrap();
        assert_eq!(kcp.message_len(), usize::try_from(size.as_i64().unwrap()).ok());
    }
}

#[test]
fn the_recorded_acknowledgement_settles_the_short_message() {
    let vectors = json::parse(SEGMENTS);
    let short = scenario(&vectors, "short_message");
    let consumed = scenario(&vectors, "ack_consumed");
    let conv = number(&short["conv"]) as u32;
    let sent_at = Instant::from_millis(number(&short["datagrams_decoded"][0][0]["ts"]));
    let mut kcp = Heap::engine(conv, config(&short["params"]));
    kcp.send(&hex(&short["message_hex"])).unwrap();
    let mut out = [0; 1500];
    let len = kcp.poll_transmit(sent_at, &mut out).unwrap();
    // At the same reading of the clock, even the clock's field is the same.
    assert_eq!(out[..len], hex(&short["datagrams"][0]));
    for datagram in list(&consumed["input"]) {
        input(&mut kcp, sent_at + Duration::from_millis(7), &hex(datagram)).unwrap();
    }
    assert_eq!(kcp.unacked() as u64, number(&consumed["wait_snd"]));
    assert_eq!(kcp.rtt().smoothed(), Some(Duration::from_millis(7)));
    assert_eq!(kcp.poll_timeout(), None);
}

#[test]
fn a_full_window_is_told_as_soon_as_it_opens() {
    let vectors = json::parse(SEGMENTS);
    let scenario = scenario(&vectors, "window_tell_fast_recover");
    let conv = number(&scenario["conv"]) as u32;
    let mut kcp = Lent::engine(conv, config(&scenario["params"]));
    for datagram in list(&scenario["input"]) {
        input(&mut kcp, NOW, &hex(datagram)).unwrap();
    }
    assert_eq!(transmit(&mut kcp, NOW), recorded(conv, &scenario["datagrams_when_full"]));
    assert!(recv(&mut kcp, NOW).is_some());
    assert_eq!(transmit(&mut kcp, NOW), recorded(conv, &scenario["datagrams"]));
    // Not recorded: kcp-go tells once, and the peer waits seconds if that is lost. Here it is told again.
    assert!(kcp.poll_timeout().is_some());
}

#[test]
fn a_closed_window_is_asked_about_when_kcp_go_asks() {
    let vectors = json::parse(SEGMENTS);
    let scenario = scenario(&vectors, "window_probe");
    let conv = number(&scenario["conv"]) as u32;
    let mut kcp = Heap::engine(conv, config(&scenario["params"]));
    let begun = NOW;
    input(&mut kcp, begun, &hex(&scenario["input"][0])).unwrap();
    kcp.send(b"x").unwrap();
    assert_eq!(transmit(&mut kcp, begun), Vec::<Vec<Segment>>::new(), "no data into a closed window");
    for event in list(&scenario["events"]) {
        let at = kcp.poll_timeout().unwrap().at;
        assert_eq!(transmit(&mut kcp, at), [segments(conv, &hex(&event["hex"]))]);
        // The recording was polled every 5 ms.
        let late = number(&event["t_ms"]) - at.since(begun).as_millis();
        assert!(late < 5, "asked at {at:?}");
    }
}

#[test]
fn messages_are_refused_where_kcp_go_refuses_them() {
    let vectors = json::parse(SEGMENTS);
    let limits = scenario(&vectors, "send_limits");
    assert_eq!(
        ["send_255_fragments", "send_256_fragments", "send_empty"].map(|key| limits[key].as_i64()),
        [Some(0), Some(-2), Some(-1)]
    );
    let mut kcp = Heap::engine(1, Config { mode: Mode::Message, recv_window: 1024, ..Config::GAMES });
    let limit = 255 * kcp.mss();
    assert_eq!(kcp.send(&vec![0; limit]), Ok(()));
    assert_eq!(kcp.send(&vec![0; limit + 1]), Err(SendError::TooLong { limit, actual: limit + 1 }));
    assert_eq!(kcp.send(&[]), Err(SendError::Empty));
}

#[test]
fn datagrams_are_refused_where_kcp_go_refuses_them() {
    let vectors = json::parse(SEGMENTS);
    for case in list(&scenario(&vectors, "input_return_codes")["cases"]) {
        let conv = 0x1122_3344;
        let mut kcp = Heap::engine(conv, Config { mode: Mode::Message, recv_window: 1024, ..Config::GAMES });
        let code = match input(&mut kcp, NOW, &hex(&case["hex"])) {
            Ok(()) => 0,
            Err(Malformed::TooShort { .. } | Malformed::Conversation { .. }) => -1,
            Err(Malformed::Length { .. }) => -2,
            Err(Malformed::Command { .. }) => -3,
            Err(other) => panic!("{}: {other}", case["name"]),
        };
        assert_eq!(Some(code), case["input_ret"].as_i64(), "{}", case["name"]);
        assert_eq!(transmit(&mut kcp, NOW), recorded(conv, &case["datagrams"]), "{}", case["name"]);
    }
}
