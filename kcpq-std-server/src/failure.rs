//! When a thread of the server panics: the others tell their clients and end, and the owner of the server hears of it. A
//! server that lives without one of its threads would leave that one's clients without an answer.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::handle::Handle;
use crate::shard::Command;

/// What the owner wants to be done.
type Act = Box<dyn FnOnce() + Send>;

/// Whether a thread has panicked, and whom to tell.
#[derive(Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Quiet,
    Awaited(Act),
    Failed,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Lets `act` be called when a thread panics, at once if one has.
    pub(crate) fn on_failure(&self, act: Act) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Failed) {
            drop(state);
            act();
        } else {
            *state = State::Awaited(act);
        }
    }

    fn fail(&self) {
        let before = mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Failed);
        if let State::Awaited(act) = before {
            act();
        }
    }
}

/// Stands guard over one thread: it is to be dropped when that ends.
pub(crate) struct Guard {
    pub(crate) watch: Arc<Watch>,
    pub(crate) shards: Vec<Handle>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            for shard in &self.shards {
                shard.send(Command::Drain);
            }
            self.watch.fail();
        }
    }
}
