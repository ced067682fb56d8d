//! The last will.

use kcpq_core::client;

/// A last will: a message that a client leaves with the server, which publishes it if the session ends without that the client
/// has closed it: its program has crashed, its network is gone, or the server has thrown it out. Who watches the subject hears
/// that it is gone.
///
/// ```no_run
/// use kcpq_smol::{Client, Will};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder()
///     .will(Will::new("status.thermometer", "offline").retain())
///     .connect("telemetry.example:4000")
///     .await?;
/// client.publish("status.thermometer", "online").retain().await?;
/// # Ok(())
/// # }
/// ```
///
/// It is left again in each session that follows a loss, and what the session before has left is void then: a client that
/// comes back is not declared dead. A server that stops, or is killed, publishes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    subject: String,
    payload: Vec<u8>,
    retain: bool,
}

impl Will {
    /// A message to this subject.
    pub fn new(subject: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self { subject: subject.into(), payload: payload.into(), retain: false }
    }

    /// It is to be kept as the last value of its subject, for those who subscribe later.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn as_core(&self) -> client::Will<'_> {
        client::Will { subject: &self.subject, payload: &self.payload, retain: self.retain }
    }
}
