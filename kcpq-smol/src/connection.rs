//! Where the connection stands, and with whom it is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcpq_core::client::State;

use crate::clock::Clock;
use crate::shared::Shared;

/// Where the connection of a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// The names of the servers are being looked up.
    Resolving,
    /// Waiting for the first answer of a server.
    Connecting,
    /// A server answers.
    Connected {
        /// It speaks the native protocol.
        native: bool,
    },
    /// Waiting for the next attempt.
    Waiting {
        /// When it begins.
        until: Instant,
    },
    /// The last messages are on their way.
    Closing,
    /// The client is closed; no other state follows.
    Closed,
}

impl ConnectionState {
    pub(crate) fn new(state: State, clock: Clock) -> Self {
        match state {
            State::Idle => Self::Resolving,
            State::Connecting { .. } => Self::Connecting,
            State::Up { native } => Self::Connected { native },
            State::Waiting { until } => Self::Waiting { until: clock.at(until) },
            State::Closing { .. } => Self::Closing,
            State::Closed => Self::Closed,
        }
    }

    /// True while a server answers.
    pub fn is_connected(self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// Follows the state of a client's connection. States that do not last may be passed over; it does not keep the client open.
pub struct Watch {
    shared: Arc<Shared>,
    seen: ConnectionState,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seen = shared.connection();
        Self { shared, seen }
    }

    /// The present state, which counts as seen.
    pub fn get(&mut self) -> ConnectionState {
        self.seen = self.shared.connection();
        self.seen
    }

    /// Waits until the state is another one than was seen last; `None` once the closed state was seen. Cancel-safe.
    pub async fn changed(&mut self) -> Option<ConnectionState> {
        if self.seen == ConnectionState::Closed {
            return None;
        }
        loop {
            // Listening comes before looking, so that no change is missed between the two.
            let changed = self.shared.changed.listen();
            let seen = self.seen;
            if self.get() != seen {
                return Some(self.seen);
            }
            changed.await;
        }
    }

    /// Waits until the state is one of those wanted, which it may be already; `None` if the client was closed before.
    /// Cancel-safe.
    ///
    /// ```no_run
    /// use kcpq_smol::ConnectionState;
    ///
    /// # async fn example(client: kcpq_smol::Client) {
    /// client.watch().wait_for(ConnectionState::is_connected).await;
    /// # }
    /// ```
    pub async fn wait_for(&mut self, wanted: impl Fn(ConnectionState) -> bool) -> Option<ConnectionState> {
        let mut state = self.get();
        while !wanted(state) {
            state = self.changed().await?;
        }
        Some(state)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// What is known of the server that a client is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// What it calls itself; empty if it does not say, as an original one.
    pub name: String,
    /// It speaks the native protocol.
    pub native: bool,
    /// Where it is.
    pub address: Option<SocketAddr>,
    /// The largest message that it takes: subject, payload and properties, and 3 bytes more.
    pub max_message: usize,
    /// The longest subject that it takes, in bytes, if it says so.
    pub max_subject: Option<u16>,
    /// The deepest subject that it takes, in tokens, if it says so.
    pub max_tokens: Option<u8>,
    /// After how long a silence it forgets a client, if it says so.
    pub keep_alive: Option<Duration>,
    /// A random number that is another one after each restart of a native server.
    pub epoch: Option<u64>,
    /// It keeps the last value of a subject if its publisher wants that ([`Publish::retain`](crate::Publish::retain)).
    pub keeps_last_values: bool,
}

impl Shared {
    pub(crate) fn connection(&self) -> ConnectionState {
        ConnectionState::new(self.lock().core.state(), self.clock)
    }

    pub(crate) fn server_info(&self) -> Option<ServerInfo> {
        let state = self.lock();
        let core = &state.core;
        if !core.is_connected() {
            return None;
        }
        let said = core.server();
        Some(ServerInfo {
            name: core.server_name().unwrap_or_default().into(),
            native: core.state() == State::Up { native: true },
            address: state.direct.server(),
            max_message: core.largest_message(),
            max_subject: said.map(|said| said.max_subject),
            max_tokens: said.map(|said| said.max_tokens),
            keep_alive: said.map(|said| said.keep_alive.into()).filter(|span: &Duration| !span.is_zero()),
            epoch: said.map(|said| said.epoch),
            keeps_last_values: said.is_some_and(|said| said.keeps()),
        })
    }
}
