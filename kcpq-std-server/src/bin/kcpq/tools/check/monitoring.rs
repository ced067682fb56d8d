//! A server, as it shows itself over HTTP.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{Finding, Site, figures, millis};
use crate::Failure;

const WHAT: &str = "monitoring";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clocks that are further apart make logs of two machines hard to read beside each other.
const APART: Duration = Duration::from_secs(1);

/// See above.
pub(super) async fn look(site: &Site) -> Vec<Finding> {
    let before = SystemTime::now();
    let varz = match site.document("/varz", PATIENCE).await {
        Ok(varz) => varz,
        Err(Failure::Error(why) | Failure::Timeout(why)) => {
            return vec![Finding::broken(
                WHAT,
                why,
                &["is the server started with --http, and with --http-open for others?"],
            )];
        }
    };
    let took = before.elapsed().unwrap_or_default();
    let mut findings = vec![match site.document("/healthz", PATIENCE).await {
        Ok(_) => Finding::well(WHAT, format!("{} {} works", text(&varz, "server_name"), text(&varz, "version"))),
        Err(Failure::Error(why) | Failure::Timeout(why)) => {
            Finding::broken(WHAT, why, &["a thread of it hangs or has ended: see its log"])
        }
    }];
    // It was made somewhere between the question and the answer; documents are up to a second old.
    findings.extend(humantime::parse_rfc3339(&text(&varz, "now")).ok().map(|now| clock(before + took / 2, now)));
    findings.push(drops(&varz));
    findings.extend(backbone(&varz["backbone"]));
    findings
}

/// The NATS servers over which it is one with others, if there are to be some.
fn backbone(found: &Value) -> Option<Finding> {
    let connected = found["connected"].as_bool()?;
    let lost = found["dropped"]["away"].as_u64().unwrap_or(0) + found["dropped"]["in_doubt"].as_u64().unwrap_or(0);
    let (storing, values) = (&found["storing"], &found["last_values"]);
    let unstored: u64 =
        ["no_stream", "refused", "in_doubt", "full"].iter().filter_map(|why| storing[why].as_u64()).sum();
    let (what, disconnects) = ("backbone", found["disconnects"].as_u64().unwrap_or(0));
    Some(if !connected {
        let text = format!("not there: {}", text(found, "trouble"));
        Finding::broken(what, text, &["clients of other servers hear nothing of this one's; local messages go on"])
    } else if lost > 0 {
        let text = format!("{} is there; {lost} messages were lost in {disconnects} outages", text(found, "server"));
        Finding::warning(what, text, &["see to NATS, or have more wait for it: --nats-buffer"])
    } else if unstored > 0 {
        let waiting = storing["pending_msgs"].as_u64().unwrap_or(0);
        let text = format!(
            "{} is there; {unstored} messages that were to be stored may not be, and {waiting} wait",
            text(found, "server")
        );
        Finding::warning(
            what,
            text,
            &["has a stream of JetStream their subjects, and room? why: storing in /varz, and the log"],
        )
    } else if let Some(trouble) = found["store_trouble"].as_str() {
        let text = format!("{} is there; JetStream is not: {}", text(found, "server"), figures::tame(trouble));
        Finding::warning(what, text, &["see to the servers of --nats: messages go on, what is stored is not read"])
    } else if let Some(trouble) = values["trouble"].as_str() {
        let waiting = values["pending"].as_u64().unwrap_or(0);
        let text =
            format!("{} is there; the bucket of last values is not: {trouble}; {waiting} wait", text(found, "server"));
        Finding::warning(what, text, &["make it: nats kv add BUCKET; last values are kept and changed here meanwhile"])
    } else {
        Finding::well(what, format!("{} is there", text(found, "server")))
    })
}

fn clock(here: SystemTime, there: SystemTime) -> Finding {
    let apart = here.duration_since(there).unwrap_or_else(|error| error.duration());
    let way = if there > here { "fast" } else { "slow" };
    // A document may be as old as that.
    if apart <= APART + Duration::from_secs(1) {
        return Finding::well("clock", "that of the server is this machine's, to two seconds");
    }
    let advice = "kcpq does not mind, but times in logs are not comparable: see to NTP (`timedatectl`) on both";
    Finding::warning("clock", format!("that of the server is {} {way}", millis(apart)), &[advice])
}

fn drops(varz: &Value) -> Finding {
    let kernel = varz["udp_receive_dropped"].as_u64().unwrap_or(0);
    let dropped: u64 = varz["dropped"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let text = format!("{dropped} messages dropped, {kernel} datagrams by the kernel, since it was started");
    match (kernel, dropped) {
        (0, 0) => Finding::well("drops", text),
        (0, _) => Finding::warning("drops", text, &["`kcpq top` and /connz?sort=dropped say whose, and why"]),
        _ => Finding::warning(
            "drops",
            text,
            &["the server did not read in time: larger socket buffers there, or --shards"],
        ),
    }
}

fn text(varz: &Value, name: &str) -> String {
    figures::tame(varz[name].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;
    use serde_json::json;

    #[test]
    fn clocks_that_differ_and_messages_that_were_dropped_are_warned_of() {
        let now = SystemTime::now();
        assert_eq!(clock(now, now - Duration::from_millis(1_500)).grade, Grade::Well);
        let slow = clock(now, now - Duration::from_secs(30));
        assert_eq!((slow.grade, &*slow.text), (Grade::Warning, "that of the server is 30 s slow"));
        assert!(clock(now, now + Duration::from_secs(30)).text.ends_with("fast"));
        let found =
            |kernel: u64, slow: u64| drops(&json!({ "udp_receive_dropped": kernel, "dropped": { "slow": slow } }));
        assert_eq!(found(0, 0).grade, Grade::Well);
        let grade = |found: Value| backbone(&found).map(|finding| finding.grade);
        assert_eq!(grade(Value::Null), None);
        assert_eq!(grade(json!({ "connected": false, "trouble": "why" })), Some(Grade::Broken));
        assert_eq!(grade(json!({ "connected": true, "dropped": { "away": 1 } })), Some(Grade::Warning));
        assert_eq!(grade(json!({ "connected": true, "storing": { "refused": 1, "stored": 9 } })), Some(Grade::Warning));
        assert_eq!(grade(json!({ "connected": true, "storing": { "stored": 9 } })), Some(Grade::Well));
        assert_eq!(grade(json!({ "connected": true, "server": "nats://a:4222" })), Some(Grade::Well));
        assert_eq!(grade(json!({ "connected": true, "store_trouble": "why" })), Some(Grade::Warning));
        assert_eq!(grade(json!({ "connected": true, "last_values": { "trouble": "why" } })), Some(Grade::Warning));
        assert!(found(0, 3).advice[0].contains("kcpq top") && found(2, 3).advice[0].contains("socket buffers"));
    }
}
