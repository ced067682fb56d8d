//! What each session did of late, from one look to the next.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kcpq_std_server::Session;
use kcpq_std_server::broker::SessionId;

/// What a session did since the look before, for each second of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    /// Messages from it, and the bytes of their frames.
    pub(super) messages_in: f64,
    pub(super) bytes_in: f64,
    /// The same to it.
    pub(super) messages_out: f64,
    pub(super) bytes_out: f64,
}

/// All sessions at the last look, as far as the next one needs it.
#[derive(Debug)]
pub(super) struct Recent {
    at: Instant,
    sessions: HashMap<SessionId, Counted>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    messages_in: u64,
    bytes_in: u64,
    messages_out: u64,
    bytes_out: u64,
    sent: u64,
    lost: u64,
    /// Of these, how much weighs still: it fades.
    recent_sent: f64,
    recent_lost: f64,
    rate: Option<Rate>,
}

/// Looks further apart than this say nothing of what happens at the moment.
const MEMORY: Duration = Duration::from_secs(10);
/// How long it takes until what was lost weighs 1/e.
const FADES_IN: Duration = Duration::from_secs(10);

impl Recent {
    /// The sessions now, after what was known of them.
    pub(super) fn new(at: Instant, sessions: &[Session], before: Option<&Self>) -> Self {
        let before = before.filter(|before| !before.is_over(at));
        let span = before.map(|before| at.duration_since(before.at).as_secs_f64()).filter(|span| *span > 0.0);
        let count = |session: &Session| {
            // One that was not there then has done everything since.
            let earlier = before.and_then(|before| before.sessions.get(&session.id)).copied().unwrap_or_default();
            (session.id, Counted::now(session).after(&earlier, span))
        };
        Self { at, sessions: sessions.iter().map(count).collect() }
    }

    /// True if it says nothing any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.at) > MEMORY
    }

    /// When it will say nothing any more.
    pub(super) fn until(&self) -> Instant {
        self.at + MEMORY
    }

    /// What a session did since the look before; `None` if there was none.
    pub(super) fn rate(&self, id: SessionId) -> Option<Rate> {
        self.sessions.get(&id)?.rate
    }

    /// Which share of the segments that were sent to a session was lost, about the last ten seconds, or ever if nobody
    /// looked before; `None` if nothing was sent.
    pub(super) fn loss(&self, id: SessionId) -> Option<f64> {
        let counted = self.sessions.get(&id)?;
        (counted.recent_sent >= 0.5).then(|| (counted.recent_lost / counted.recent_sent).min(1.0))
    }
}

impl Counted {
    fn now(session: &Session) -> Self {
        let (messages, transport) = (&session.messages, &session.transport);
        Self {
            messages_in: messages.messages_in,
            bytes_in: messages.bytes_in,
            messages_out: messages.messages_out,
            bytes_out: messages.bytes_out,
            sent: transport.segments_sent,
            lost: transport.lost_timeout + transport.lost_fast,
            ..Self::default()
        }
    }

    /// The same, with what follows from what was counted `span` seconds before.
    fn after(self, earlier: &Self, span: Option<f64>) -> Self {
        let Some(span) = span else {
            return Self { recent_sent: self.sent as f64, recent_lost: self.lost as f64, ..self };
        };
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let stays = (-span / FADES_IN.as_secs_f64()).exp();
        Self {
            recent_sent: earlier.recent_sent * stays + since(self.sent, earlier.sent),
            recent_lost: earlier.recent_lost * stays + since(self.lost, earlier.lost),
            rate: Some(Rate {
                messages_in: since(self.messages_in, earlier.messages_in) / span,
                bytes_in: since(self.bytes_in, earlier.bytes_in) / span,
                messages_out: since(self.messages_out, earlier.messages_out) / span,
                bytes_out: since(self.bytes_out, earlier.bytes_out) / span,
            }),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_look_and_losses_fade() {
        let first =
            Counted { messages_in: 100, sent: 10, lost: 10, ..Counted::default() }.after(&Counted::default(), None);
        assert_eq!((first.rate, first.recent_lost), (None, 10.0));
        let second = Counted { messages_in: 300, sent: 20, lost: 10, ..Counted::default() }.after(&first, Some(2.0));
        assert_eq!(second.rate.unwrap().messages_in, 100.0);
        assert!(second.recent_lost < 10.0 && second.recent_lost > 8.0, "{}", second.recent_lost);
        // One that begins anew under the same number has no negative rate.
        assert_eq!(Counted::default().after(&second, Some(1.0)).rate.unwrap(), Rate::default());
    }

    #[test]
    fn what_nobody_looked_at_for_long_has_no_rate() {
        let begun = Instant::now();
        let recent = Recent::new(begun, &[], None);
        assert!(!recent.is_over(begun + MEMORY) && recent.is_over(begun + MEMORY + Duration::from_millis(1)));
        assert_eq!(recent.until(), begun + MEMORY);
    }
}
