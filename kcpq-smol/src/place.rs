//! Where the task of a client runs.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;

use crate::own::Own;

/// A task that ends when its client does.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the task of a client runs.
#[derive(Clone, Default)]
pub(crate) enum Place {
    /// On smol's global executor.
    #[default]
    Global,
    /// On a thread of its own, which looks for so long before it sleeps.
    Thread(Duration),
    /// Where the user wants it.
    Given(Arc<dyn Fn(Task) + Send + Sync>),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("Global"),
            Self::Thread(spin) => f.debug_tuple("Thread").field(spin).finish(),
            Self::Given(_) => f.write_str("Given"),
        }
    }
}

impl Place {
    /// How a task waits that has a thread of its own.
    ///
    /// # Errors
    /// The system's, if it has no way to wait.
    pub(crate) fn own(&self) -> io::Result<Option<Own>> {
        match self {
            Self::Thread(spin) => Own::new(*spin).map(Some),
            _ => Ok(None),
        }
    }

    /// Lets a task run there.
    ///
    /// # Errors
    /// The system's, if it has no thread to give.
    pub(crate) fn spawn(&self, task: Task) -> io::Result<()> {
        match self {
            Self::Global => smol::spawn(task).detach(),
            Self::Thread(_) => {
                std::thread::Builder::new().name("kcpq".into()).spawn(|| block_on(task))?;
            }
            Self::Given(spawn) => spawn(task),
        }
        Ok(())
    }
}
