//! Waiting on a thread of one's own: for the sockets, a moment and a handle, in one system call.
//!
//! The reactor of `async-io` is shared by all tasks of a program, so whatever comes there may be told by another thread, and
//! it is told anew what is waited for each time. A client that has its thread does without. What it waits for ends with the
//! millisecond in which it is due, as the poller counts in these.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use mio::{Events, Token};

use crate::paths::Paths;
use crate::route::Route;

/// All sockets are read whichever is ready.
pub(crate) const SOCKET: Token = Token(0);
const BELL: Token = Token(1);

/// Wakes the thread.
#[derive(Debug)]
pub(crate) struct Bell(mio::Waker);

impl Bell {
    pub(crate) fn ring(&self) {
        // Fails where the system has no room for one more number: then it has rung already.
        let _ = self.0.wake();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// How the thread waits.
#[derive(Debug)]
pub(crate) struct Own {
    poll: mio::Poll,
    events: Events,
    bell: Arc<Bell>,
    /// For how long it looks again and again before it sleeps.
    spin: Duration,
}

impl Own {
    /// # Errors
    /// The system's, when it has no way to wait.
    pub(crate) fn new(spin: Duration) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let bell = Arc::new(Bell(mio::Waker::new(poll.registry(), BELL)?));
        Ok(Self { poll, events: Events::with_capacity(8), bell, spin })
    }

    pub(crate) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Waits until a socket may have something, `until` has come, or the bell has rung; returns what a look-up of names has
    /// found if one is over.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn wait(
        &mut self,
        paths: &mut Paths,
        route: &mut Route,
        until: Option<Instant>,
    ) -> io::Result<Option<io::Result<()>>> {
        paths.register(self.poll.registry())?;
        let waker = Waker::from(self.bell());
        if let Poll::Ready(found) = route.poll_looked_up(&mut Context::from_waker(&waker)) {
            return Ok(Some(found));
        }
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            let left = until.map(|at| at.saturating_duration_since(now));
            let awake = now.duration_since(begun) < self.spin;
            let waited = self.poll.poll(&mut self.events, if awake { Some(Duration::ZERO) } else { left });
            match waited {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ if !awake || !self.events.is_empty() || left == Some(Duration::ZERO) => return Ok(None),
                // Where others have to wait for a processor they go first.
                _ => std::thread::yield_now(),
            }
        }
    }
}
