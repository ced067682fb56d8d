//! Publishing beside the client's lock.
//!
//! The runner holds that lock for long, while it makes datagrams or takes them in, and who publishes a stream would wait for
//! it again and again. As long as it is awake, or sleeps for a moment while messages gather, it looks by itself for what there
//! is to send: then a message is put on a [`Stage`], behind a lock that nobody holds for long, and nobody is woken. Whoever
//! takes the client's lock takes over what is staged before anything else, so that all is as if it were published there.
//!
//! While the runner sleeps the stage is shut, and until a message is published while it does not: one that comes alone is sent by
//! who publishes it ([`Direct`](crate::direct::Direct)). It is shut as well while the client could refuse a message.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kcpq_core::client::{Client, Stage};
use kcpq_core::store::Heap;

use crate::shared::{BATCH, State};

/// A stage, and its lock, which is taken after the client's or without it.
#[derive(Debug, Default)]
pub(crate) struct Staging(Mutex<Stage>);

impl Staging {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stages a message, if that is possible now.
    pub(crate) fn publish(&self, put: impl FnOnce(&mut Stage) -> bool) -> bool {
        put(&mut self.lock())
    }

    /// Nothing more is staged, and what was is the client's. Returns how many messages that were.
    pub(crate) fn shut(&self, core: &mut Client<Heap>) -> u32 {
        let mut stage = self.lock();
        stage.shut();
        core.take_staged(&mut stage) as u32
    }

    /// Takes over what was staged, and lets as much be staged as there is room for, if the runner sees to it.
    pub(crate) fn renew(&self, state: &mut State) {
        if !state.streams {
            // Nobody publishes, or the runner sleeps, and it was shut before.
            return;
        }
        let mut stage = self.lock();
        state.published += state.core.take_staged(&mut stage) as u32;
        // What gathers is sent when it is enough: who publishes the last of it sees to that.
        let most = if state.gathers { BATCH.saturating_sub(state.core.queued()) } else { usize::MAX };
        state.core.open_stage(&mut stage, most);
        state.staged = true;
    }
}
