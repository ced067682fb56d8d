//! A sensor whose readings are stored: each by a stream of JetStream behind the server, before the next one is taken.

use core::fmt::Write as _;

use embassy_time::{Duration, Instant, Ticker};
use heapless::String;
use kcpq_embassy::StoreError;

use crate::app::{Client, reading, subject};

/// What became of readings that were to be stored.
pub struct Archived {
    /// Readings that are stored, the first ones.
    pub stored: u32,
    /// How often it was not known whether one is, so that it was published again.
    pub doubts: u32,
    /// Why the next one is not, if that was the end.
    pub end: Option<StoreError>,
}

/// As [`telemetry`](crate::app::telemetry), but each reading is stored before the next one is taken: under an id of its own, so
/// that one of which it is not known whether it is stored can be published again, and is there once.
pub async fn archive(client: Client, id: &str, rate: u32, count: u32) -> Archived {
    let subject = subject(id, "temperature");
    let mut ticker = Ticker::every(Duration::from_hz(u64::from(rate.max(1))));
    let mut archived = Archived { stored: 0, doubts: 0, end: None };
    while count == 0 || archived.stored < count {
        ticker.next().await;
        let reading = reading(archived.stored, Instant::now());
        let mut own: String<64> = String::new();
        // What is cut off is the same for all readings.
        let _ = write!(own, "{}-{id}", archived.stored);
        loop {
            match client.publish(&subject, &reading).stored().id(&own).await {
                Ok(_) => break archived.stored += 1,
                Err(why) if why.is_in_doubt() => archived.doubts += 1,
                Err(why) => return Archived { end: Some(why), ..archived },
            }
        }
    }
    archived
}
