//! A run that is queued: what comes of it but that it waits is known before.

use super::Outlet;
use crate::broker::context::Context;
use crate::broker::run::{Room, Run};
use crate::frame::LENGTH;
use crate::lane::Lane;
use crate::outbox::Queues;
use crate::store::Heap;

impl Outlet {
    /// How much more the party takes in a lane without being off in another way than behind the first message, of `first` bytes.
    /// `None` if what becomes of each message has to be seen.
    pub(in crate::broker) fn room<P>(
        &self,
        cx: &Context<P>,
        queue: &mut Queues<Heap>,
        lane: Lane,
        first: usize,
    ) -> Option<Room> {
        let waiting = self.waiting(queue);
        let after = waiting + first;
        let most = cx.config.max_queued.min(self.max_queued);
        if self.behind.is_some() || after >= self.high || after > most || queue.of(lane).has_latest() {
            return None;
        }
        let mark = if after < self.low() { self.low() } else { self.high };
        let bytes = (mark - 1).min(most) - waiting;
        Some(Room { bytes, longest: (self.max_body as usize).saturating_add(LENGTH), ..Room::MOST })
    }

    /// Queues a run for which there is [`room`](Self::room), also for what its messages have behind them.
    pub(in crate::broker) fn admit_run<P>(
        &mut self,
        cx: &mut Context<P>,
        queue: &mut Queues<Heap>,
        run: &mut Run<'_>,
        lane: Lane,
    ) {
        let outbox = queue.of(lane);
        outbox.set_now(cx.now);
        run.append_to(outbox);
        self.took(&mut cx.stats, cx.now, (run.count(), run.len_out()), queue);
    }
}
