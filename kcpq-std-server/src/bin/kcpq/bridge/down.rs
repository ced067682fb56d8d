//! What came from NATS goes to the kcpq server.

use std::time::Instant;

use kcpq_smol::{Client, ConnectionState, PublishError, PublishRefusal};

use super::map;
use super::queue::Waiting;
use super::shared::Shared;

/// Publishes what comes from NATS, in its order, as the kcpq server takes it; until the queue is closed and empty.
pub(super) async fn to_kcpq(shared: &Shared, client: &Client) {
    let way = &shared.counters.to_kcpq;
    while let Some(waiting) = shared.queue.next().await {
        // What waits here makes room for what is newer; what waits in the client does not.
        if client.watch().wait_for(ConnectionState::is_connected).await.is_none() {
            continue; // closed: it is counted at the end
        }
        match publish(shared, client, &waiting).await {
            Published::Yes => way.passed.add(1),
            Published::Expired => way.expired.add(1),
            Published::Refused(why) => {
                tracing::warn!(subject = &*waiting.subject, %why, "a message from NATS is nothing for the kcpq server");
                way.refused.add(1);
            }
            Published::Closed => {}
        }
    }
}

enum Published {
    Yes,
    Expired,
    Refused(PublishRefusal),
    Closed,
}

async fn publish(shared: &Shared, client: &Client, waiting: &Waiting) -> Published {
    let Waiting { subject, reply, headers, payload, lane, latest, expires } = waiting;
    let is_native = client.is_native();
    if !is_native && map::any_fits(&shared.to_nats, subject) {
        shared.echoes().note(Instant::now(), subject, payload);
    }
    loop {
        let ttl = expires.map(|at| at.saturating_duration_since(Instant::now()));
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Published::Expired;
        }
        let mut publish = client.publish(subject, payload).lane(*lane);
        if is_native {
            publish = publish.headers(headers.iter().map(|(name, value)| (&**name, &**value)));
            if let Some(reply) = reply {
                publish = publish.reply_to(reply);
            }
        }
        if *latest {
            publish = publish.latest();
        }
        if let Some(ttl) = ttl {
            publish = publish.ttl(ttl);
        }
        match publish.await {
            Ok(()) => {
                // Its own header nobody misses.
                let has_more = reply.is_some() || headers.len() > 1;
                shared.counters.stripped.add(u64::from(!is_native && has_more));
                return Published::Yes;
            }
            // A slow server: what waits behind it makes room.
            Err(PublishError::TimedOut { .. }) => {}
            Err(PublishError::Refused(PublishRefusal::Closed)) => return Published::Closed,
            Err(PublishError::Refused(why)) => return Published::Refused(why),
            Err(_) => return Published::Closed,
        }
    }
}
