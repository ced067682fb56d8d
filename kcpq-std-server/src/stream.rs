//! Clients that come over a stream which somebody else carries: browsers, over WebSockets.
//!
//! Whoever carries one gives the thread that serves its bytes, and is called by that thread for what goes the other
//! way. Nobody waits for the other: no more than a window of bytes is between the two.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kcpq_core::broker::{self, SessionId, StreamEvent};

use crate::handle::Handle;
use crate::peer::Client;
use crate::shard::{Command, Shard};
use crate::view::View;

/// A client's stream. When this is dropped the stream has ended.
#[derive(Debug)]
pub struct Stream {
    shard: Handle,
    key: u64,
}

/// What is called with what there is for a stream: it may not wait.
type Carrier = Box<dyn FnMut(StreamEvent) + Send>;

/// A stream that begins.
pub(crate) struct Opening {
    key: u64,
    peer: Client,
    token: Option<[u8; 32]>,
    carrier: Carrier,
}

/// All streams of a thread.
#[derive(Default)]
pub(crate) struct Streams {
    ids: HashMap<u64, SessionId>,
    carriers: HashMap<SessionId, (u64, Carrier)>,
}

/// What has become of a stream.
#[derive(Debug)]
pub(crate) enum Change {
    /// Bytes have come.
    Came(Bytes),
    /// So many bytes were sent.
    Sent(usize),
    /// It has ended.
    Lost,
}

impl View {
    /// Serves a client whose bytes are whole and in order, as a WebSocket's are (PROTOCOL.md 11), with the hash of the
    /// token that it has shown, if any. `carrier` is called by the thread that serves, soon and again and again, and
    /// may not wait: it hands over [`StreamEvent`]s, the last of which is [`Ended`](StreamEvent::Ended). `None` if the
    /// server has ended.
    ///
    /// `remote` counts for the limit of sessions for each address. It is not taken for the server's own machine,
    /// wherever it is: who carries a stream may do so for others.
    pub fn open_stream(
        &self,
        remote: SocketAddr,
        token: Option<[u8; 32]>,
        carrier: impl FnMut(StreamEvent) + Send + 'static,
    ) -> Option<Stream> {
        static STREAMS: AtomicU64 = AtomicU64::new(0);
        let key = STREAMS.fetch_add(1, Ordering::Relaxed);
        let shard = self.shards.get(key as usize % self.shards.len().max(1))?.clone();
        let opening = Opening { key, peer: Client::of_stream(remote), token, carrier: Box::new(carrier) };
        shard.send(Command::OpenStream(Box::new(opening))).then_some(Stream { shard, key })
    }
}

impl Stream {
    /// Bytes have come from the client, cut anywhere. No more than [`STREAM_WINDOW`](broker::STREAM_WINDOW) may be on
    /// the way: [`StreamEvent::Read`] says how many are not any more.
    pub fn came(&self, bytes: Bytes) {
        self.tell(Change::Came(bytes));
    }

    /// So many bytes of the [`StreamEvent::Frames`] were sent.
    pub fn sent(&self, bytes: usize) {
        self.tell(Change::Sent(bytes));
    }

    fn tell(&self, change: Change) {
        // A server that has ended has said so to the carrier, or is gone with it.
        self.shard.send(Command::Stream(self.key, change));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.tell(Change::Lost);
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("key", &self.key).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Shard {
    pub(crate) fn open_stream(&mut self, opening: Opening) {
        let Opening { key, peer, token, mut carrier } = opening;
        match self.broker.open_stream(self.now(), peer, token) {
            Ok(id) => {
                self.streams.ids.insert(key, id);
                self.streams.carriers.insert(id, (key, carrier));
            }
            Err(reason) => {
                carrier(StreamEvent::Frames(broker::refusal(reason).into()));
                carrier(StreamEvent::Ended);
            }
        }
    }

    pub(crate) fn change_stream(&mut self, key: u64, change: Change) {
        let now = self.now();
        let Some(&id) = self.streams.ids.get(&key) else { return };
        match change {
            Change::Came(bytes) => {
                self.broker.handle_stream(now, id, &bytes);
            }
            Change::Sent(bytes) => self.broker.on_stream_sent(now, id, bytes),
            Change::Lost => self.broker.on_stream_lost(now, id),
        }
    }

    /// Hands over what there is for streams.
    pub(crate) fn feed_streams(&mut self) {
        while let Some((id, event)) = self.broker.poll_stream() {
            let ended = event == StreamEvent::Ended;
            if let Some((_, carrier)) = self.streams.carriers.get_mut(&id) {
                carrier(event);
            }
            if ended && let Some((key, _)) = self.streams.carriers.remove(&id) {
                self.streams.ids.remove(&key);
            }
        }
    }
}
