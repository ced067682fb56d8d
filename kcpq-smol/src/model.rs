//! What threads hand over to each other, in every order that may be (`bash .ci/run threads`).
//!
//! Nobody has a timer here: what nobody is woken for is never looked at, and loom says that all sleep.

use std::future::poll_fn;
use std::sync::Arc;

use kcpq_core::client::Arrived;
use kcpq_core::frame::{Frame, command};
use loom::future::block_on;
use loom::sync::Condvar;
use loom::thread;

use crate::clock::Clock;
use crate::events::Announcer;
use crate::queue::{Capacity, Full, Queue, Rules};
use crate::sync::Mutex;

#[test]
fn a_queue_that_was_full_is_filled_again() {
    const MESSAGES: usize = 3;
    let mut frame = vec![0; 64];
    let len = Frame { command: command::MSG, subject: b"a", payload: b"b" }.encode(&mut frame).unwrap();
    frame.truncate(len);
    let mut model = loom::model::Builder::new();
    // So often at most a thread is interrupted where it need not wait.
    model.preemption_bound = Some(3);
    model.check(move || {
        let rules = Rules { full: Full::Wait, ..Rules::all(Capacity { messages: 1, bytes: 1 << 16 }) };
        let (queue, mut outlet) = Queue::new("a".into(), rules, Clock::start());
        // What the client's lock guards: the queue, and that nothing is taken in.
        let client = Arc::new((Mutex::new((queue, false)), Condvar::new()));
        let filled = Arc::clone(&client);
        let frame = frame.clone();
        let filler = thread::spawn(move || {
            for _ in 0..MESSAGES {
                let mut guard = filled.0.lock().unwrap();
                while guard.1 {
                    guard = filled.1.wait(guard).unwrap();
                }
                let (queue, holds) = &mut *guard;
                *holds = queue.deliver(Arrived::Lent(&frame), &Announcer::new());
                queue.flush();
            }
        });
        for _ in 0..MESSAGES {
            assert!(block_on(poll_fn(|cx| outlet.take_next(cx))).is_some());
            if outlet.resumes() {
                let mut guard = client.0.lock().unwrap();
                guard.1 = guard.0.is_stopped();
                drop(guard);
                client.1.notify_all();
            }
        }
        filler.join().unwrap();
    });
}
