//! The outcome, for people and for programs.

use std::io::Write;

use indicatif::HumanCount;
use serde_json::{Value, json};

use super::args::{Common, Connections, Plan};
use super::outcome::Outcome;
use super::plot;
use super::process::Usage;
use super::run::Roles;
use super::subscriber::Latency;
use crate::Failure;

/// Prints the outcome to standard output.
pub(super) fn print(plan: &Plan, outcome: &Outcome, common: &Common) -> Result<(), Failure> {
    let text = if common.json { format!("{}\n", to_json(plan, outcome)) } else { to_text(plan, outcome) };
    if let (Some(path), Some(latency)) = (&plan.plot, &outcome.latency) {
        std::fs::write(path, plot::draw(&headline(plan), latency))
            .map_err(|error| Failure::Error(format!("cannot write {}: {error}", path.display())))?;
    }
    write(&text)
}

/// Writes to standard output.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// The percentiles that are told.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p999", 99.9)];

/// One object. What is not known or was not measured is null.
fn to_json(plan: &Plan, outcome: &Outcome) -> Value {
    let transport = &outcome.transport;
    json!({
        "kind": plan.name,
        "size": plan.size,
        "pubs": plan.pubs,
        "subs": plan.subs,
        "rate": plan.phase.rate,
        "window": plan.window,
        "connections": match plan.connections {
            Connections::Shared => "shared",
            Connections::Separate => "separate",
        },
        "sessions": plan.sessions,
        "queue": plan.queue,
        "each": plan.queue.as_ref().map(|_| [outcome.slowest, outcome.most]),
        "published": outcome.published,
        "delivered": (plan.roles != Roles::Publish).then_some(outcome.delivered),
        "acknowledged": (plan.roles == Roles::Publish).then_some(outcome.delivered),
        "lost": outcome.lost,
        "in_doubt": (plan.roles == Roles::Publish).then_some(outcome.in_doubt),
        "unsent": (plan.roles == Roles::Publish).then_some(outcome.unsent),
        "repeated": outcome.repeated,
        "runs": outcome.runs,
        "dropped": outcome.dropped,
        "seconds": outcome.seconds,
        "msgs_per_s": outcome.rate(),
        "bytes_per_s": outcome.rate() * plan.size as f64,
        "latency_us": outcome.latency.as_ref().filter(|latency| !latency.is_empty()).map(latency_json),
        "segments": transport.segments_sent,
        "retransmitted": transport.retransmitted,
        "duplicates": transport.duplicates,
        "datagrams": { "sent": transport.datagrams_sent, "received": transport.datagrams_received,
                       "overrun": outcome.overrun },
        "cpu_seconds": outcome.own.map(|usage| usage.cpu),
        "rss": outcome.own.map(|usage| usage.memory),
        "server": outcome.server.map(usage_json),
    })
}

fn latency_json(latency: &Latency) -> Value {
    let mut object: serde_json::Map<_, _> = PERCENTILES
        .iter()
        .map(|(name, percentile)| ((*name).into(), micros(latency.value_at_percentile(*percentile)).into()))
        .collect();
    object.insert("max".into(), micros(latency.max()).into());
    object.insert("samples".into(), latency.len().into());
    object.into()
}

fn usage_json(usage: Usage) -> Value {
    json!({ "cpu_seconds": usage.cpu, "rss": usage.memory, "peak_rss": usage.peak })
}

fn to_text(plan: &Plan, outcome: &Outcome) -> String {
    let mut lines = vec![headline(plan)];
    if plan.roles != Roles::Subscribe {
        lines.push(format!("published     {}", HumanCount(outcome.published)));
    }
    let (delivered, lost) = (HumanCount(outcome.delivered), HumanCount(outcome.lost));
    lines.push(match plan.roles {
        // Whether anybody was there to receive them is not known here.
        Roles::Publish if outcome.lost == 0 => format!("acknowledged  {delivered}"),
        Roles::Publish => format!(
            "acknowledged  {delivered}, not acknowledged {lost}: {} in doubt after a lost connection, {} never sent",
            HumanCount(outcome.in_doubt),
            HumanCount(outcome.unsent)
        ),
        _ => format!("delivered     {delivered}, lost {lost}"),
    });
    if plan.queue.is_some() {
        lines.push(format!("each member   {} to {}", HumanCount(outcome.slowest), HumanCount(outcome.most)));
    }
    if outcome.repeated + outcome.dropped > 0 {
        lines.push(format!("              {} repeated, {} dropped here", outcome.repeated, outcome.dropped));
    }
    if outcome.runs > 1 {
        lines.push(format!("              from {} runs of publishers: time and rate are those of all", outcome.runs));
    }
    lines.push(format!("time          {:.3} s", outcome.seconds));
    let rate = outcome.rate();
    lines.push(format!("rate          {} msg/s, {:.1} MB/s", HumanCount(rate as u64), rate * plan.size as f64 / 1e6));
    if let Some(latency) = outcome.latency.as_ref().filter(|latency| !latency.is_empty()) {
        let values: Vec<_> = PERCENTILES
            .iter()
            .map(|(name, percentile)| format!("{name} {:.0}", micros(latency.value_at_percentile(*percentile))))
            .collect();
        lines.push(format!("latency       {}, max {:.0} µs", values.join(", "), micros(latency.max())));
    }
    let transport = &outcome.transport;
    lines.push(format!(
        "datagrams     {} sent, {} received{}",
        HumanCount(transport.datagrams_sent),
        HumanCount(transport.datagrams_received),
        outcome.overrun.map_or(String::new(), |lost| format!(", {} overran a socket", HumanCount(lost)))
    ));
    lines.push(format!(
        "segments      {} sent, {} of them again; {} came more than once",
        HumanCount(transport.segments_sent),
        HumanCount(transport.retransmitted),
        HumanCount(transport.duplicates)
    ));
    lines.extend(outcome.own.map(|usage| usage_text("this process", usage)));
    lines.extend(outcome.server.map(|usage| usage_text("server", usage)));
    lines.join("\n") + "\n"
}

/// What was measured.
fn headline(plan: &Plan) -> String {
    let pace = match (plan.phase.rate, plan.window) {
        (Some(rate), _) => format!("{rate} msg/s each"),
        (None, Some(window)) => format!("at most {window} under way"),
        (None, None) => "as fast as it goes".into(),
    };
    let (pubs, subs) = (plural(plan.pubs, "publisher"), plural(plan.subs, "subscriber"));
    let pubs = if plan.sessions > 1 { format!("{pubs} of {} sessions each", plan.sessions) } else { pubs };
    format!("{}: {pubs}, {subs}, {} bytes, {pace}", plan.name, plan.size)
}

fn usage_text(name: &str, usage: Usage) -> String {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (now, peak) = (mebibytes(usage.memory), mebibytes(usage.peak));
    format!("{name:<13} {:.2} s of CPU, {now:.1} MiB, at most {peak:.1} MiB", usage.cpu)
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn plural(count: u16, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
