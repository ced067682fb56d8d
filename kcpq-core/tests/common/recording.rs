//! Recordings of kcp-go in the engine's terms.
//!
//! kcp-go flushes by a tick and this engine when something is due, so what is compared is what the protocol fixes:
//! which segments answer which input, and every field of theirs but the clock of new data. Where kcp-go's own timing or
//! memory shows in a recording, a comment at the test says what is left out.

use kcpq_core::kcp::{Command, Config, CongestionControl, Header, Kcp, Malformed, Mode, Origin};
use kcpq_core::store::Store;
use kcpq_core::{Duration, Instant};
use serde_json::Value;

use crate::json::{hex, list, number};

/// The parameters of a recording.
pub(crate) fn config(params: &Value) -> Config {
    let nodelay = number(&params["nodelay"]) != 0;
    Config {
        max_in_flight: u32::MAX,
        mtu: number(&params["mtu"]) as u16,
        send_window: number(&params["snd_wnd"]) as u16,
        recv_window: number(&params["rcv_wnd"]) as u16,
        mode: Mode::Message,
        interval: Duration::from_millis(number(&params["interval"])),
        ack_delay: Duration::ZERO,
        min_rto: Duration::from_millis(if nodelay { 30 } else { 100 }),
        rto_margin: Duration::from_millis(number(&params["interval"])),
        gentle_backoff: nodelay,
        outage_probes: Duration::ZERO,
        redundancy: 0,
        fast_resend: number(&params["resend"]) as u8,
        congestion: if number(&params["nc"]) == 1 { CongestionControl::Off } else { CongestionControl::Kcp },
        // The recordings' versions wait 7 s; later ones, and our presets, half a second.
        window_probe_initial: Duration::from_secs(7),
        window_probe_limit: Duration::from_secs(120),
    }
}

/// A segment that can be compared: `ts` is kept where it is an echo, and dropped where it is the sender's clock or,
/// in window segments, without meaning (as is `sn` there, PROTOCOL.md 2.1).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) command: Command,
    pub(crate) frg: u8,
    pub(crate) wnd: u16,
    pub(crate) echo: Option<u32>,
    pub(crate) sn: Option<u32>,
    pub(crate) una: u32,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn segments(conv: u32, datagram: &[u8]) -> Vec<Segment> {
    let mut rest = datagram;
    let mut segments = Vec::new();
    while !rest.is_empty() {
        let (header, data, behind) = Header::split(rest, conv).expect("a well-formed segment");
        rest = behind;
        let window = matches!(header.command, Command::WindowProbe | Command::WindowUpdate);
        segments.push(Segment {
            command: header.command,
            frg: header.frg,
            wnd: header.wnd,
            echo: (header.command == Command::Ack).then_some(header.ts.0),
            sn: (!window).then_some(header.sn.0),
            una: header.una.0,
            data: data.to_vec(),
        });
    }
    segments
}

/// Everything that is due, datagram by datagram.
pub(crate) fn transmit<S: Store>(kcp: &mut Kcp<S>, now: Instant) -> Vec<Vec<Segment>> {
    let mut out = [0; 1500];
    let mut datagrams = Vec::new();
    while let Some(len) = kcp.poll_transmit(now, &mut out) {
        datagrams.push(segments(kcp.conv(), &out[..len]));
    }
    datagrams
}

pub(crate) fn recorded(conv: u32, datagrams: &Value) -> Vec<Vec<Segment>> {
    list(datagrams).iter().map(|datagram| segments(conv, &hex(datagram))).collect()
}

/// Takes in a datagram without reading.
pub(crate) fn input<S: Store>(kcp: &mut Kcp<S>, now: Instant, datagram: &[u8]) -> Result<(), Malformed> {
    kcp.handle_datagram(now, datagram, Origin::Wire, |_| 0)
}

pub(crate) fn recv<S: Store>(kcp: &mut Kcp<S>, now: Instant) -> Option<Vec<u8>> {
    let mut out = vec![0; 400_000];
    let len = kcp.recv_message(now, &mut out).expect("the buffer is large enough")?;
    out.truncate(len);
    Some(out)
}
