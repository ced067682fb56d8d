//! A backbone without a server: for who is a client of a server that has none, and carries messages between the two.

use std::fmt;
use std::io;
use std::slice;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kcpq_core::access::RuleError;
use kcpq_core::broker::gateway::stand_in::{self, Notice, Outgoing, StandIn, Unsayable};
use kcpq_core::broker::{Relay, gateway};
use kcpq_core::frame::Properties;
use kcpq_core::lane::Lane;
use kcpq_core::subject;
use mio::{Events, Poll};

use crate::backbone::{self, Backbone, Running};
use crate::failure::{Guard, Watch};
use crate::handle::{Commands, Handle};
use crate::shard::{Command, now};
use crate::view::{self, BackboneView};

/// NATS as [`Backbone`] says, for a program that is no server: what it publishes goes there, and what comes from there it
/// hears. All that is promised of a backbone holds: what waits while it is away, times to live, headers, answers.
#[derive(Debug)]
pub struct Uplink {
    running: Running,
    own: Handle,
    hearing: Option<JoinHandle<()>>,
    stand_in: StandIn,
    answers: String,
    epoch: Instant,
    watch: Arc<Watch>,
}

/// What comes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Heard<'m> {
    /// A message.
    Message {
        /// Its subject.
        subject: &'m str,
        /// The message.
        payload: &'m [u8],
        /// Headers, and where answers are to go.
        properties: Properties<'m>,
        /// The lane that its publisher wanted.
        lane: Lane,
        /// When it is worth nothing any more.
        expires: Option<Instant>,
    },
    /// So many bytes more of what was published need not be waited for.
    Placed(usize),
}

/// A message that is to go to NATS.
#[derive(Clone, Copy, Debug)]
pub struct Upward<'m, H> {
    /// Its subject there.
    pub subject: &'m str,
    /// Where answers are to go.
    pub reply: Option<&'m str>,
    /// Names and values.
    pub headers: H,
    /// The message.
    pub payload: &'m [u8],
    /// After how long it is worth nothing any more.
    pub ttl: Option<Duration>,
}

/// Why there is no uplink.
#[derive(Debug)]
#[non_exhaustive]
pub enum UplinkError {
    /// The operating system has no random numbers.
    Random(getrandom::Error),
    /// It gives no thread.
    Thread(io::Error),
    /// One of the patterns is none.
    Subjects(RuleError),
}

impl fmt::Display for UplinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(error) => write!(f, "the system has no random numbers: {error}"),
            Self::Thread(error) => write!(f, "the system gives no thread: {error}"),
            Self::Subjects(error) => write!(f, "subjects of the backbone: {error}"),
        }
    }
}

impl std::error::Error for UplinkError {}

impl Uplink {
    /// Begins. `hear` is called on a thread of its own, which waits for it: who takes long keeps back what else there is.
    ///
    /// # Errors
    /// [`UplinkError`]. That NATS is not there is none: it is tried again and again.
    pub fn start(backbone: Backbone, hear: impl FnMut(Heard<'_>) + Send + 'static) -> Result<Self, UplinkError> {
        let id = getrandom::u64().map_err(UplinkError::Random)?;
        let seed = getrandom::u64().map_err(UplinkError::Random)?;
        let subjects = subject::Limits { max_tokens: u8::MAX, ..subject::Limits::DEFAULT };
        let config = gateway::Config { id, subjects, ..gateway::Config::default() };
        let (import, epoch, watch) = (backbone.import.clone(), Instant::now(), Arc::<Watch>::default());
        let prepared = backbone::prepare(backbone, config, 1, seed, epoch).map_err(UplinkError::Thread)?;
        let (prepared, handle) = prepared.map_err(UplinkError::Subjects)?;
        let poll = Poll::new().map_err(UplinkError::Thread)?;
        let (own, commands) = Handle::new(&poll).map_err(UplinkError::Thread)?;
        let guard = |other: &Handle| Guard { watch: Arc::clone(&watch), shards: vec![other.clone()] };
        let mut running =
            prepared.start(slice::from_ref(&own), handle.clone(), guard(&own)).map_err(UplinkError::Thread)?;
        let ear = Ear { poll, commands, to: handle.clone(), epoch };
        let of_ear = guard(&handle);
        let hearing = std::thread::Builder::new().name("kcpq-uplink".into()).spawn(move || {
            let _guard = of_ear;
            ear.run(hear);
        });
        let hearing = hearing.inspect_err(|_| _ = running.end(Command::Stop)).map_err(UplinkError::Thread)?;
        let answers = stand_in::answers(id);
        let stand_in = StandIn::new();
        let uplink = Self { running, own, hearing: Some(hearing), stand_in, answers, epoch, watch };
        for pattern in import.iter().map(|pattern| &**pattern).chain([stand_in::ANSWERS]) {
            uplink.tell(uplink.stand_in.want(pattern, true));
        }
        Ok(uplink)
    }

    /// The pattern of the subjects to which answers for those at NATS are published: what comes there is to be published, too.
    pub fn answers(&self) -> &str {
        &self.answers
    }

    /// Publishes. How many bytes it is taken for until it is [`Heard::Placed`]: who publishes more than a few megabytes ahead of
    /// that takes the machine's memory while NATS hangs.
    ///
    /// # Errors
    /// [`Unsayable`]: nothing is published then.
    pub fn publish<'m, H>(&self, message: Upward<'m, H>) -> Result<usize, Unsayable>
    where
        H: IntoIterator<Item = (&'m str, &'m str)>,
    {
        let Upward { subject, reply, headers, payload, ttl } = message;
        let expires = ttl.map(|ttl| now(self.epoch) + ttl.into());
        let (relay, bytes) = self.stand_in.publish(Outgoing { subject, reply, headers, payload, expires })?;
        self.tell(relay);
        Ok(bytes)
    }

    /// How it is with NATS; `None` if its thread has ended, or does not answer for 10 s.
    pub fn view(&self) -> Option<BackboneView> {
        view::ask(&self.running.handle, view::PATIENCE, Command::Backbone)
    }

    /// Calls `act`, from any thread, if one of the threads panics: at once if that has happened.
    pub fn on_failure(&self, act: impl FnOnce() + Send + 'static) {
        self.watch.on_failure(Box::new(act));
    }

    /// Lets nothing more come, and waits until NATS has what was published, within [`Backbone::linger`]. All that NATS had sent by
    /// then is heard when this returns. How it was at last: what waits then is lost. `None` if a thread has panicked.
    pub fn end(mut self) -> Option<BackboneView> {
        let last = self.running.end(Command::Drain);
        self.finish();
        last
    }

    /// To the gateway, which takes this for its only broker.
    fn tell(&self, relay: Relay) {
        self.running.handle.send(Command::Relays(0, vec![relay]));
    }

    fn finish(&mut self) {
        self.own.send(Command::Stop);
        if self.hearing.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that hears what comes from the backbone has panicked");
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.running.end(Command::Stop);
        self.finish();
    }
}

/// The thread that hears what the gateway tells.
struct Ear {
    poll: Poll,
    commands: Commands,
    to: Handle,
    epoch: Instant,
}

impl Ear {
    fn run(mut self, mut hear: impl FnMut(Heard<'_>)) {
        let (stand_in, mut events) = (StandIn::new(), Events::with_capacity(1));
        loop {
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Stop | Command::Drain => return,
                    Command::Relays(_, relays) => {
                        for relay in relays {
                            let answer = stand_in.handle(relay, |notice| {
                                if let Some(heard) = self.heard(notice) {
                                    hear(heard);
                                }
                            });
                            if let Some(answer) = answer {
                                self.to.send(Command::Relays(0, vec![answer]));
                            }
                        }
                    }
                    _ => {} // nobody asks it for anything else
                }
            }
            if self.commands.may_sleep()
                && let Err(error) = self.poll.poll(&mut events, None)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::warn!(%error, "waiting for what comes from the backbone failed");
                std::thread::sleep(Duration::from_millis(50));
            }
            self.commands.wakes();
        }
    }

    fn heard<'m>(&self, notice: Notice<'m>) -> Option<Heard<'m>> {
        match notice {
            Notice::Message { subject, frame, lane, expires } => {
                let (payload, properties) = frame.message()?;
                let expires = expires.map(|at| self.epoch + Duration::from_micros(at.as_micros()));
                Some(Heard::Message { subject, payload, properties, lane, expires })
            }
            Notice::Placed(bytes) => Some(Heard::Placed(bytes)),
            _ => None,
        }
    }
}
