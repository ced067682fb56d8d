//! A TCP relay that can stop to forward without a word, as a network does that falls apart.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running one; it stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Wall {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
    accepts: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is forwarded.
    is_up: bool,
    /// How often it has come down. What was connected before it went up is connected no more then.
    falls: u64,
    has_ended: bool,
}

/// How long a thread waits for bytes before it looks again.
const LOOK: Duration = Duration::from_millis(10);

impl Wall {
    /// In front of a port of this machine.
    ///
    /// # Panics
    ///
    /// If there is no socket for it.
    pub(crate) fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let accepts = {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                let mut pumps = Vec::new();
                for inward in listener.incoming().map_while(Result::ok) {
                    let falls = {
                        let state = lock(&state);
                        if state.has_ended {
                            break;
                        }
                        state.falls
                    };
                    let Ok(outward) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                    for (from, to) in [(&inward, &outward), (&outward, &inward)] {
                        let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                        let state = Arc::clone(&state);
                        pumps.push(std::thread::spawn(move || pump(from, to, &state, falls)));
                    }
                }
                for pump in pumps {
                    pump.join().expect("a relay that works");
                }
            })
        };
        Self { port: own, state, accepts: Some(accepts) }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on nothing passes, and nobody is told.
    pub(crate) fn go_up(&self) {
        lock(&self.state).is_up = true;
    }

    /// Who connects from now on passes; connections from before end, and what was under way on them is lost.
    pub(crate) fn come_down(&self) {
        let mut state = lock(&self.state);
        (state.is_up, state.falls) = (false, state.falls + 1);
        self.state.1.notify_all();
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        lock(&self.state).has_ended = true;
        self.state.1.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepts) = self.accepts.take() {
            // A panic there is told already.
            let _ = accepts.join();
        }
    }
}

fn lock(state: &(Mutex<State>, Condvar)) -> std::sync::MutexGuard<'_, State> {
    state.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries bytes one way, until one of the ends goes, or the wall has been up.
fn pump(mut from: TcpStream, mut to: TcpStream, state: &(Mutex<State>, Condvar), falls: u64) {
    let _ = from.set_read_timeout(Some(LOOK));
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut piece);
        let mut now = lock(state);
        while now.is_up && !now.has_ended && now.falls == falls {
            now = state.1.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        if now.has_ended || now.falls != falls {
            break;
        }
        drop(now);
        match read {
            Ok(0) => break,
            Ok(len) if to.write_all(&piece[..len]).is_err() => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    for end in [&from, &to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
