//! Requests, and where their answers come (PROTOCOL.md 3.10).

use core::fmt::{self, Write as _};

use embassy_sync::blocking_mutex::raw::RawMutex;
use heapless::String;
use kcpq_core::client::{Message, PublishError, State};
use kcpq_core::frame::properties::Writer;

use crate::{Client, Ended, SubscribeError, Subscription};

/// Where answers come to: a subscription whose name others do not know, and which makes one request at a time.
///
/// An answer that nobody waits for any more lies in the receive window as any message does: the next request passes it over, or
/// [`Config::patience`](crate::Config::patience).
#[must_use = "dropped, its subscription is ended"]
pub struct Inbox<'d, R: RawMutex, const TEXT: usize = 64> {
    client: Client<'d, R, TEXT>,
    subscription: Subscription<'d, R, TEXT>,
    secret: u64,
    requests: u32,
}

/// The subject that an answer comes to: `_INBOX.`, 16 digits of the secret, and the number of the request.
const SUBJECT: usize = 7 + 16 + 1 + 10;
/// That as a property.
const REPLY: usize = 3 + SUBJECT;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RequestError {
    /// The message was refused.
    Refused(PublishError),
    /// Nobody is subscribed to the subject.
    NoResponders,
    /// The server does not know subjects for answers, as an original one.
    Unsupported,
    /// The subscription for answers has ended.
    Ended(Ended),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::NoResponders => f.write_str("nobody is subscribed to the subject"),
            Self::Unsupported => f.write_str("the server does not know subjects for answers"),
            Self::Ended(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RequestError {}

impl<R: RawMutex, const TEXT: usize> fmt::Debug for Inbox<'_, R, TEXT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("requests", &self.requests).finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<R: RawMutex, const TEXT: usize> defmt::Format for Inbox<'_, R, TEXT> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Inbox");
    }
}

impl<'d, R: RawMutex, const TEXT: usize> Client<'d, R, TEXT> {
    /// A place for answers; ready when the server has acknowledged its subscription. `secret` is random, and not the client's
    /// seed: whoever knows it can read the answers.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn inbox(&self, secret: u64) -> Result<Inbox<'d, R, TEXT>, SubscribeError> {
        let mut pattern = String::<SUBJECT>::new();
        // It has room for that.
        let _ = write!(pattern, "_INBOX.{secret:016x}.*");
        let subscription = self.subscribe(&pattern).await?;
        Ok(Inbox { client: *self, subscription, secret, requests: 0 })
    }
}

impl<R: RawMutex, const TEXT: usize> Inbox<'_, R, TEXT> {
    /// Publishes a message, and passes the first answer to it to `read`, borrowed from the receive window, under the same rules as
    /// [`Subscription::next`]. There is no time limit: `embassy_time::with_timeout` gives one.
    ///
    /// Cancel-safe: if dropped, the message may have been published, and an answer is passed over.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request<T>(
        &mut self,
        subject: &str,
        payload: &[u8],
        read: impl FnOnce(&Message<&[u8]>) -> T,
    ) -> Result<T, RequestError> {
        if self.client.state() == (State::Up { native: false }) {
            return Err(RequestError::Unsupported);
        }
        self.requests = self.requests.wrapping_add(1);
        let mut reply = String::<SUBJECT>::new();
        let _ = write!(reply, "_INBOX.{:016x}.{}", self.secret, self.requests);
        let mut memory = [0; REPLY];
        let mut properties = Writer::new(&mut memory);
        let written = properties.reply(&reply).map_err(PublishError::Properties);
        written.map_err(RequestError::Refused)?;
        let published = self.client.publish_with(subject, payload, properties.properties()).await;
        published.map_err(RequestError::Refused)?;
        let mut read = Some(read);
        loop {
            let answer = self.subscription.next(|message| {
                if message.subject() != reply.as_str() {
                    return None; // to a request that nobody waits for any more
                }
                let nobody = message.properties().has_nobody();
                Some(if nobody { None } else { read.take().map(|read| read(message)) })
            });
            if let Some(answer) = answer.await.map_err(RequestError::Ended)? {
                return answer.ok_or(RequestError::NoResponders);
            }
        }
    }
}
