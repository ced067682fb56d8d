//! A signal ends a measurement before its time: nothing more is begun, what there is is told, and sessions are closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use event_listener::Event;

use crate::Failure;
use crate::interrupt::Interrupt;

/// Whether a signal has come. Clones see the same.
#[derive(Clone, Debug)]
pub(super) struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicBool,
    event: Event,
}

impl Stop {
    /// From now on the first signal comes here; a second one kills.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn listen() -> io::Result<Self> {
        let (shared, mut interrupt) = (Arc::<Shared>::default(), Interrupt::listen()?);
        let stop = Self(Arc::clone(&shared));
        smol::spawn(async move {
            interrupt.come().await;
            shared.asked.store(true, SeqCst);
            shared.event.notify(usize::MAX);
        })
        .detach();
        Ok(stop)
    }

    /// It has come.
    pub(super) fn is_asked(&self) -> bool {
        self.0.asked.load(SeqCst)
    }

    /// Waits for it.
    pub(super) async fn asked(&self) {
        loop {
            let event = self.0.event.listen();
            if self.is_asked() {
                return;
            }
            event.await;
        }
    }

    /// An error if it has come.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if self.is_asked() {
            Err(Failure::Timeout("interrupted: the figures are of what there was until then".into()))
        } else {
            Ok(())
        }
    }
}
