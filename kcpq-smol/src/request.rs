//! Requests: messages that are answered.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::Stream;
use kcpq_core::client::{self, Arrived, RequestFailure, RequestId};
use kcpq_core::frame::PropertyError;
use kcpq_core::frame::properties::PropertiesBuf;

use crate::client::Client;
use crate::error::RequestError;
use crate::events::Announcer;
use crate::message::Message;
use crate::operation::{BoxFuture, Limit, deadline, headers};
use crate::queue::{Capacity, Outlet, Queue, Rules};
use crate::shared::Handle;

/// Asks for an answer: publishes a message, and waits for what whoever is subscribed to its subject publishes in return
/// ([`Message::respond`]). Ready with the first answer; [`replies`](Self::replies) gives several.
///
/// A server that finds nobody subscribed says so at once. What a message is that waits in a queue until the time is over
/// nobody hears of.
///
/// Cancel-safe: if dropped before it is ready, no answer is waited for any more; the message may have been published.
#[must_use = "operations do nothing unless awaited"]
pub struct Request<'c, P> {
    client: &'c Client,
    subject: &'c str,
    payload: P,
    properties: Result<PropertiesBuf, PropertyError>,
    limit: Limit,
}

impl<'c, P: AsRef<[u8]>> Request<'c, P> {
    pub(crate) fn new(client: &'c Client, subject: &'c str, payload: P) -> Self {
        let limit = Limit::new(client.shared().timeout);
        Self { client, subject, payload, properties: Ok(PropertiesBuf::new()), limit }
    }

    deadline!();

    headers!();

    /// Publishes the message, and gives all answers that come until the time is over.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut replies = client.request("who.is.there", "").within(Duration::from_millis(300)).replies().await?;
    /// while let Some(reply) = replies.next().await {
    ///     println!("{:?}", reply.payload());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RequestError`]: nothing was published.
    pub async fn replies(self) -> Result<Replies, RequestError> {
        self.publish(u32::MAX).await
    }

    async fn run(self) -> Result<Message, RequestError> {
        let mut replies = self.publish(1).await?;
        match replies.next().await {
            Some(reply) => Ok(reply),
            None => Err(replies.failure().map_or(RequestError::Failed(RequestFailure::Closed), RequestError::Failed)),
        }
    }

    /// Publishes the message as soon as there is room for it.
    async fn publish(self, replies: u32) -> Result<Replies, RequestError> {
        let shared = self.client.shared();
        let properties = self.properties.as_ref().map_err(|error| {
            RequestError::Refused(client::RequestError::Refused(client::PublishError::Properties(*error)))
        })?;
        loop {
            // Listening comes before trying, so that no room is missed between the two.
            let room = shared.writable.listen();
            let asked = {
                let mut state = shared.lock();
                let mut request = client::Request::default();
                (request.headers, request.within, request.replies) =
                    (properties.properties(), self.limit.left().into(), replies);
                let asked = state.core.request(shared.now(), self.subject, self.payload.as_ref(), &request);
                let asked = asked.map(|id| {
                    let rules = Rules::all(Capacity::DEFAULT);
                    let (queue, outlet) = Queue::new(self.subject.into(), rules, shared.clock);
                    state.requests.insert(id, Asked { queue, ended: None });
                    (id, outlet)
                });
                shared.published(&mut state, asked.is_ok());
                asked
            };
            match asked {
                Ok((id, outlet)) => return Ok(Replies { id, outlet, handle: self.client.handle(), ended: None }),
                Err(client::RequestError::Refused(client::PublishError::Full)) => {
                    if self.limit.bound(room).await.is_none() {
                        return Err(RequestError::Failed(RequestFailure::TimedOut));
                    }
                }
                Err(error) => return Err(RequestError::Refused(error)),
            }
        }
    }
}

impl<'c, P: AsRef<[u8]> + Send + 'c> IntoFuture for Request<'c, P> {
    type Output = Result<Message, RequestError>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A request, as the runner sees it.
pub(crate) struct Asked {
    queue: Queue,
    ended: Option<Ended>,
}

/// Why no more answers come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// As many came as were wanted.
    Enough,
    Failed(RequestFailure),
}

impl Asked {
    /// An answer has come.
    pub(crate) fn answered(&mut self, reply: Arrived<'_>, last: bool, events: &Announcer) {
        // Answers are few: one alone would take a buffer that is meant for a run of them.
        let reply = match reply {
            Arrived::Whole(frame) => frame,
            lent => Bytes::copy_from_slice(lent.bytes()),
        };
        self.queue.deliver(Arrived::Whole(reply), events);
        if last {
            self.end(Ended::Enough);
        }
    }

    /// No more come.
    pub(crate) fn failed(&mut self, why: RequestFailure) {
        self.end(Ended::Failed(why));
    }

    fn end(&mut self, why: Ended) {
        self.ended.get_or_insert(why);
        self.queue.close();
    }
}

/// The answers to a request, until its time is over. Dropping it ends that earlier.
///
/// 65,536 answers may wait, or 64 MiB; what comes then is dropped and reported as [`Event::Dropped`](crate::Event::Dropped)
/// with the subject of the request.
pub struct Replies {
    id: RequestId,
    outlet: Outlet,
    handle: Arc<Handle>,
    ended: Option<Ended>,
}

impl Replies {
    /// The next answer; `None` when no more come, and [`failure`](Self::failure) says why. Cancel-safe: dropping the future
    /// loses no answer.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Why no more answers come: [`RequestFailure::TimedOut`] at the end of its time, [`RequestFailure::NoResponders`] if nobody
    /// is subscribed. `None` as long as some may come.
    pub fn failure(&self) -> Option<RequestFailure> {
        match self.ended {
            Some(Ended::Failed(why)) => Some(why),
            Some(Ended::Enough) | None => None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        let next = ready!(self.outlet.take_next(cx));
        if next.is_none() {
            let asked = self.handle.0.lock().requests.remove(&self.id);
            self.ended = asked.and_then(|asked| asked.ended).or(Some(Ended::Failed(RequestFailure::Closed)));
        }
        Poll::Ready(next)
    }
}

impl Stream for Replies {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll(cx)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        // Its number may be another request's by now.
        if self.ended.is_none() {
            let mut state = self.handle.0.lock();
            state.core.forget_request(self.id);
            state.requests.remove(&self.id);
        }
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("ended", &self.ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use kcpq_core::frame::{Frame, command};

    use super::*;
    use crate::clock::Clock;
    use crate::events::Event;

    #[test]
    fn answers_that_nobody_reads_have_a_ceiling_and_those_beyond_it_are_told() {
        let events = Announcer::new();
        let mut heard = events.listen();
        let rules = Rules::all(Capacity { messages: 2, bytes: 1 << 20 });
        let (queue, mut outlet) = Queue::new("who".into(), rules, Clock::start());
        let mut asked = Asked { queue, ended: None };
        let mut frame = [0; 64];
        for name in ["one", "two", "three"] {
            let answer = Frame { command: command::MSG, subject: b"inbox", payload: name.as_bytes() };
            let len = answer.encode(&mut frame).unwrap();
            asked.answered(Arrived::Lent(&frame[..len]), false, &events);
        }
        asked.failed(RequestFailure::TimedOut);
        let mut next = || block_on(poll_fn(|cx| outlet.take_next(cx)));
        assert_eq!(next().unwrap().payload(), b"one");
        assert_eq!(next().unwrap().payload(), b"two");
        assert!(next().is_none());
        let Event::Dropped { pattern, total: 1 } = block_on(heard.next()).unwrap() else { panic!("it was not told") };
        assert_eq!(&*pattern, "who");
    }
}
