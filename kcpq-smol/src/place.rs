//! Where the task of a client runs.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

/// A task that ends when its client does.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the task of a client runs.
#[derive(Clone, Default)]
pub(crate) enum Place {
    /// On smol's global executor.
    #[default]
    Global,
    /// On a thread of its own.
    Thread,
    /// Where the user wants it.
    Given(Arc<dyn Fn(Task) + Send + Sync>),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "Global",
            Self::Thread => "Thread",
            Self::Given(_) => "Given",
        })
    }
}

impl Place {
    /// Lets a task run there.
    ///
    /// # Errors
    /// The system's, if it has no thread to give.
    pub(crate) fn spawn(&self, task: Task) -> io::Result<()> {
        match self {
            Self::Global => smol::spawn(task).detach(),
            Self::Thread => {
                std::thread::Builder::new().name("kcpq".into()).spawn(|| smol::block_on(task))?;
            }
            Self::Given(spawn) => spawn(task),
        }
        Ok(())
    }
}
