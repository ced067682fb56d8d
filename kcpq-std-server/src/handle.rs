//! How a thread is reached that waits with a poller: by a queue, and a waker for when it sleeps. To wake a thread is a system call,
//! and one that is awake looks at its queue anyway before it sleeps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};

use mio::{Poll, Token, Waker};

use crate::shard::Command;

/// By this the poller tells of commands. Listeners have the lowest numbers.
pub(crate) const COMMAND: Token = Token(usize::MAX);

/// How to reach a thread from another one.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    /// See [`Commands::awake`].
    awake: Arc<AtomicBool>,
}

/// What a thread is asked to do, as it sees that.
pub(crate) struct Commands {
    received: Receiver<Command>,
    /// The one that was there when it was about to sleep.
    next: Option<Command>,
    /// It need not be woken: it has been, or will look.
    awake: Arc<AtomicBool>,
}

impl Handle {
    /// A handle of who waits with `poll` for [`COMMAND`].
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new(poll: &Poll) -> io::Result<(Self, Commands)> {
        let (sender, received) = mpsc::channel();
        let waker = Arc::new(Waker::new(poll.registry(), COMMAND)?);
        let awake = Arc::new(AtomicBool::new(false));
        let commands = Commands { received, next: None, awake: Arc::clone(&awake) };
        Ok((Self { commands: sender, waker, awake }, commands))
    }

    /// Makes the thread do something. False if it has ended.
    pub(crate) fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        if !self.awake.swap(true, Ordering::AcqRel) {
            self.wake();
        }
        sent
    }

    /// Wakes it for something else than a command.
    pub(crate) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a thread of the server cannot be woken");
        }
    }
}

impl Commands {
    /// The next one.
    ///
    /// # Errors
    /// There is none for now, or never again.
    pub(crate) fn try_recv(&mut self) -> Result<Command, TryRecvError> {
        self.next.take().map_or_else(|| self.received.try_recv(), Ok)
    }

    /// The thread is about to sleep: from now on it is woken for a command. False if there is one already.
    pub(crate) fn may_sleep(&mut self) -> bool {
        // Whoever has sent one before and saw it awake is seen here, and whoever does later wakes it.
        self.awake.swap(false, Ordering::AcqRel);
        match self.received.try_recv() {
            Ok(command) => self.next = Some(command),
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Disconnected) => {}
        }
        self.wakes();
        false
    }

    /// It has slept, and looks at all that there is before it does again.
    pub(crate) fn wakes(&self) {
        // Whoever finds it awake does not wake it, so all that was sent before has to be seen from here on: a mere store
        // would not see to that.
        self.awake.swap(true, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::Events;

    use super::*;

    #[test]
    fn a_thread_is_woken_if_it_sleeps_and_finds_what_came_before() {
        let mut poll = Poll::new().unwrap();
        let (handle, mut commands) = Handle::new(&poll).unwrap();
        let mut events = Events::with_capacity(1);
        let mut is_woken = || {
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            !events.is_empty()
        };
        handle.send(Command::Drain);
        assert!(is_woken());
        commands.wakes();
        handle.send(Command::Stop);
        assert!(!is_woken(), "it is awake");
        assert!(matches!(commands.try_recv(), Ok(Command::Drain)));
        assert!(!commands.may_sleep(), "there is one more");
        assert!(matches!(commands.try_recv(), Ok(Command::Stop)));
        assert!(matches!(commands.try_recv(), Err(TryRecvError::Empty)));
        assert!(commands.may_sleep() && !is_woken());
        handle.send(Command::Stop);
        handle.send(Command::Stop);
        assert!(is_woken());
        while commands.try_recv().is_ok() {}
        drop(handle);
        assert!(!commands.may_sleep(), "nobody can wake it");
    }

    #[test]
    fn none_is_slept_over_whoever_sends_when() {
        const COUNT: usize = 20_000;
        let mut poll = Poll::new().unwrap();
        let (handle, mut commands) = Handle::new(&poll).unwrap();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let handle = handle.clone();
                std::thread::spawn(move || (0..COUNT).for_each(|_| _ = handle.send(Command::Drain)))
            })
            .collect();
        let (mut events, mut count) = (Events::with_capacity(1), 0);
        while count < 2 * COUNT {
            while commands.try_recv().is_ok() {
                count += 1;
            }
            if count < 2 * COUNT && commands.may_sleep() {
                // Only a failure waits so long.
                poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
                assert!(!events.is_empty(), "it was not woken");
            }
            commands.wakes();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}
