//! Who reads standard output, and whether that one is still there.
//!
//! A program that only writes learns of it with its next line, which may never come. Where the system can tell it is asked.

#[cfg(unix)]
pub(super) use unix::Reader;

#[cfg(not(unix))]
pub(super) use other::Reader;

#[cfg(unix)]
mod unix {
    use std::io::{IsTerminal, Stdout, stdout};
    use std::time::Duration;

    use async_io::{Async, Timer};
    use futures_lite::future::pending;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    /// The other end of standard output.
    pub(crate) struct Reader(Option<Async<Stdout>>);

    /// How often the system is asked if it has something to say that is of no interest here.
    const PAUSE: Duration = Duration::from_secs(1);

    impl Reader {
        /// Watches it, if it is one that can go: the other end of a pipe or a socket. A file has none, and a terminal says
        /// with a signal that it goes.
        pub(crate) fn watch() -> Self {
            // Its mode is left as it is: it may belong to other processes as well.
            Self(
                Some(stdout())
                    .filter(|stdout| !stdout.is_terminal())
                    .and_then(|stdout| Async::new_nonblocking(stdout).ok()),
            )
        }

        /// There is none that matters.
        pub(crate) fn nobody() -> Self {
            Self(None)
        }

        /// Waits until nobody reads any more.
        pub(crate) async fn gone(&self) {
            let Some(stdout) = &self.0 else { return pending().await };
            loop {
                if stdout.readable().await.is_err() {
                    return pending().await;
                }
                let mut asked = [PollFd::new(stdout.get_ref(), PollFlags::empty())];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                if poll(&mut asked, Some(&now)).is_ok()
                    && asked.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP))
                {
                    return;
                }
                Timer::after(PAUSE).await;
            }
        }
    }
}

#[cfg(not(unix))]
mod other {
    /// The other end of standard output.
    pub(crate) struct Reader;

    impl Reader {
        pub(crate) fn watch() -> Self {
            Self
        }

        pub(crate) fn nobody() -> Self {
            Self
        }

        /// It is noticed with the next line.
        pub(crate) async fn gone(&self) {
            futures_lite::future::pending().await
        }
    }
}
