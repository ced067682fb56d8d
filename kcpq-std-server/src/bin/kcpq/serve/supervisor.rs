//! What systemd is told, if it is there and wants to know (sd_notify(3), `Type=notify`): that the server is ready,
//! that it works, and that it stops.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::pending;
use kcpq_std_server::View;

/// Clients can come.
pub(super) fn ready(addrs: &[SocketAddr]) {
    let addrs = addrs.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    ready_as(&format!("listening on {addrs}"));
}

/// The same of a program that does something else.
pub(crate) fn ready_as(what: &str) {
    system::tell(&system::State::Ready(what.into()));
}

/// The server ends, which takes so long at most, beside what it is given anyway.
pub(crate) fn stopping(within: Duration) {
    system::tell(&system::State::Stopping(within));
}

/// Tells again and again that the server works, as long as all its threads do, if somebody watches (`WatchdogSec=`). It
/// never ends.
pub(super) async fn watch(view: View) -> Infallible {
    let Some(limit) = system::watchdog() else { return pending().await };
    let pace = pace(limit);
    loop {
        let asked = view.clone();
        if smol::unblock(move || asked.answers(pace)).await {
            system::tell(&system::State::Works);
        } else {
            tracing::error!(?limit, "a thread of the server does not answer; if that goes on the watchdog ends it");
        }
        Timer::after(pace).await;
    }
}

/// Twice within the limit, with time for an answer.
fn pace(limit: Duration) -> Duration {
    limit / 4
}

#[cfg(target_os = "linux")]
mod system {
    use std::time::Duration;

    use sd_notify::NotifyState;

    pub(super) enum State {
        Ready(String),
        Works,
        Stopping(Duration),
    }

    /// Who does not listen does not want to know.
    pub(super) fn tell(state: &State) {
        let told = match state {
            State::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
            State::Works => sd_notify::notify(&[NotifyState::Watchdog]),
            State::Stopping(within) if within.is_zero() => sd_notify::notify(&[NotifyState::Stopping]),
            State::Stopping(within) => {
                let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
                sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(within)])
            }
        };
        if let Err(error) = told {
            tracing::warn!(%error, "cannot tell the supervisor ($NOTIFY_SOCKET)");
        }
    }

    /// How long the server may be silent, if that is limited.
    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::Duration;

    pub(super) enum State {
        Ready(#[expect(dead_code, reason = "there is nobody to tell")] String),
        Works,
        Stopping(#[expect(dead_code, reason = "there is nobody to tell")] Duration),
    }

    pub(super) fn tell(_: &State) {}

    pub(super) fn watchdog() -> Option<Duration> {
        None
    }
}
