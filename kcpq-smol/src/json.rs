//! Payloads as JSON, for whatever [serde](https://serde.rs) knows. With the feature `json`.

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::message::Message;
use crate::operation::Publish;
use crate::request::Request;

impl Client {
    /// As [`publish`](Self::publish), with a value as JSON.
    ///
    /// ```no_run
    /// #[derive(serde::Serialize)]
    /// struct Position {
    ///     x: f32,
    ///     y: f32,
    /// }
    ///
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// client.publish_json("player.7", &Position { x: 1.5, y: 2.0 })?.await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of serde, at once; the others when it is awaited.
    pub fn publish_json<'c, T>(&'c self, subject: &'c str, value: &T) -> serde_json::Result<Publish<'c, Vec<u8>>>
    where
        T: Serialize + ?Sized,
    {
        Ok(self.publish(subject, serde_json::to_vec(value)?))
    }

    /// As [`request`](Self::request), with a value as JSON.
    ///
    /// # Errors
    /// Those of serde, at once; the others when it is awaited.
    pub fn request_json<'c, T>(&'c self, subject: &'c str, value: &T) -> serde_json::Result<Request<'c, Vec<u8>>>
    where
        T: Serialize + ?Sized,
    {
        Ok(self.request(subject, serde_json::to_vec(value)?))
    }
}

impl Message {
    /// The value that the payload is the JSON of. Text in it may be borrowed from the message.
    ///
    /// # Errors
    /// The payload is no JSON, or that of something else.
    pub fn json<'m, T: Deserialize<'m>>(&'m self) -> serde_json::Result<T> {
        serde_json::from_slice(self.payload())
    }

    /// As [`respond`](Self::respond), with a value as JSON.
    ///
    /// # Errors
    /// Those of serde, at once; the others when it is awaited.
    pub fn respond_json<'c, T>(&'c self, client: &'c Client, value: &T) -> serde_json::Result<Publish<'c, Vec<u8>>>
    where
        T: Serialize + ?Sized,
    {
        Ok(self.respond(client, serde_json::to_vec(value)?))
    }
}
