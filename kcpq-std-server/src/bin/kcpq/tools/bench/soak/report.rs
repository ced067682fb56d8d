//! What came of it, for people and for programs.

use std::time::Duration;

use indicatif::HumanCount;
use serde_json::{Value, json};

use super::super::subscriber::Latency;
use super::look::Look;
use super::steady::Stretch;
use super::{Outcome, Soak};

pub(super) fn to_json(soak: &Soak, outcome: &Outcome) -> String {
    let Outcome { seed, seconds, visits, steady: [before, meanwhile, after], own, server } = outcome;
    let looks = |looks: &Option<[Look; 2]>| looks.map(|[before, after]| json!([look_json(&before), look_json(&after)]));
    let object = json!({
        "kind": "soak",
        "seed": seed,
        "guests": soak.guests,
        "seconds": seconds,
        "visits": {
            "came": visits.came,
            "refused": visits.refused,
            "reconnected": visits.reconnected,
            "published": visits.published,
            "received": visits.received,
            "answered": visits.answered,
            "failed": visits.failed,
        },
        "steady": [stretch_json(before), stretch_json(meanwhile), stretch_json(after)],
        "process": looks(own),
        "server": looks(server),
        "faults": outcome.faults(),
    });
    format!("{object}\n")
}

fn stretch_json(stretch: &Stretch) -> Value {
    let [p50, p99, max] = latency(&stretch.latency);
    json!({
        "published": stretch.published,
        "delivered": stretch.delivered,
        "repeated": stretch.repeated,
        "latency_us": { "p50": p50, "p99": p99, "max": max },
    })
}

fn look_json(look: &Look) -> Value {
    json!({ "cpu_seconds": look.cpu, "rss": look.memory, "descriptors": look.descriptors })
}

pub(super) fn to_text(soak: &Soak, outcome: &Outcome) -> String {
    let Outcome { seed, seconds, visits, steady, own, server } = outcome;
    let time = humantime::format_duration(Duration::from_secs(*seconds as u64));
    let mut lines = vec![
        format!("soak: {} guests at a time for {time}, seed {seed}", soak.guests),
        format!(
            "guests        {} came and went, {} did not get in; {} connections given up for another",
            HumanCount(visits.came),
            HumanCount(visits.refused),
            HumanCount(visits.reconnected)
        ),
        format!(
            "              {} messages published, {} received, {} requests answered; {} operations failed",
            HumanCount(visits.published),
            HumanCount(visits.received),
            HumanCount(visits.answered),
            HumanCount(visits.failed)
        ),
    ];
    for (when, stretch) in ["before", "meanwhile", "afterwards"].into_iter().zip(steady) {
        let [p50, p99, max] = latency(&stretch.latency);
        lines.push(format!(
            "{when:<13} {} of {} messages of the steady pair came; latency p50 {p50:.0}, p99 {p99:.0}, max {max:.0} µs",
            HumanCount(stretch.delivered),
            HumanCount(stretch.published)
        ));
    }
    for (who, looks) in [("this process", own), ("server", server)] {
        let Some([before, after]) = looks else { continue };
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        lines.push(format!(
            "{who:<13} {:.1} MiB, {:.1} before; {} open descriptors, {} before; {:.1} s of CPU",
            mebibytes(after.memory),
            mebibytes(before.memory),
            after.descriptors,
            before.descriptors,
            after.cpu - before.cpu
        ));
    }
    lines.join("\n") + "\n"
}

/// p50, p99 and the largest, in microseconds.
fn latency(latency: &Latency) -> [f64; 3] {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    [micros(latency.value_at_percentile(50.0)), micros(latency.value_at_percentile(99.0)), micros(latency.max())]
}
