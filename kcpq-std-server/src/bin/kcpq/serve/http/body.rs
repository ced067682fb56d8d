//! What an answer consists of: a text, or events for as long as somebody listens.

use std::convert::Infallible;
use std::pin::Pin;

use futures_lite::{Stream, StreamExt};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Bytes, Frame};

/// See above.
pub(crate) type Body = Either<Full<Bytes>, StreamBody<Events>>;

/// One after the other, each made when there is room for it: who does not read has nothing made.
type Events = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>>>>;

pub(super) fn text(text: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(text.into()))
}

pub(super) fn events(events: impl Stream<Item = Bytes> + 'static) -> Body {
    Either::Right(StreamBody::new(Box::pin(events.map(|event| Ok(Frame::data(event))))))
}
