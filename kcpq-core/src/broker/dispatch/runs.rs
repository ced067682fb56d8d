//! What PUBs do that lie one behind the other and are about the same.

use super::Dispatch;
use crate::broker::delivery::Publisher;
use crate::broker::hub::Routed;
use crate::broker::peer::Peer;
use crate::broker::run::Alike;
use crate::subject::Subject;

impl<P: Peer> Dispatch<'_, P> {
    /// Routes messages from the first on, if they are only to be handed to whoever wants them. Returns how many bytes they are; what it
    /// leaves is to be looked at by itself.
    #[inline(never)]
    pub(super) fn publish_alike(&mut self, messages: Alike<'_>) -> usize {
        let mut checked = core::mem::take(&mut self.cx.subject);
        let len = match checked.check(messages.subject(), &self.cx.config.subjects) {
            Ok(subject) if self.may_publish_all(subject) => self.publish_run(subject, messages),
            _ => 0,
        };
        self.cx.subject = checked;
        len
    }

    fn publish_run(&mut self, subject: Subject<'_>, messages: Alike<'_>) -> usize {
        let Self { cx, hub, table, me, lane, .. } = self;
        let Routed { len, count, unrouted } =
            hub.publish_run(cx, table, &mut Publisher::session(me), subject, (*lane, messages));
        #[cfg(test)]
        {
            cx.runs = cx.runs.map(|before| before + count);
        }
        cx.stats.messages_in += u64::from(count);
        cx.stats.bytes_in += len as u64;
        cx.stats.unrouted += u64::from(unrouted);
        let counts = &mut me.member.outlet.counts;
        counts.messages_in += u64::from(count);
        counts.bytes_in += len as u64;
        counts.unrouted += u64::from(unrouted);
        len
    }

    /// True if that goes for each message of this subject, whatever its size.
    fn may_publish_all(&mut self, subject: Subject<'_>) -> bool {
        let Self { cx, hub, me, lane, .. } = self;
        if me.fills_backlog(*lane) || subject.is_reserved() || hub.kept.chooses(subject) {
            return false;
        }
        match (&mut cx.guard, &mut me.member.pass) {
            (None, _) => true,
            (Some(guard), Some(pass)) => guard.permits(pass, subject) && guard.limits(pass).bytes_per_second.is_none(),
            (Some(_), None) => false,
        }
    }
}
