//! Waiting for what must happen soon, with a limit that only a failure reaches.

use std::time::{Duration, Instant};

use smol::Timer;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What `future` gives, within [`LIMIT`].
///
/// # Panics
///
/// If it takes longer.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(LIMIT).await;
        panic!("waited too long: {what}");
    };
    smol::future::or(future, late).await
}

/// Waits until `condition` holds, looking often.
///
/// # Panics
///
/// If that takes longer than [`LIMIT`].
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "waited too long: {what}");
        Timer::after(Duration::from_millis(2)).await;
    }
}

/// The same where looking takes a while.
///
/// # Panics
///
/// Likewise.
pub(crate) async fn until_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            Timer::after(Duration::from_millis(2)).await;
        }
    };
    soon(what, holds).await;
}
