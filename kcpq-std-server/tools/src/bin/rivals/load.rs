//! Load by a broker's own protocol, over plain sockets.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use crate::Flags;
use crate::measure::{Payload, Publish, Shared, measure};
use crate::protocol::{Broker, Frame};
use crate::tls::{Stream, Tls};

/// Bytes that one call writes, and reads.
const WRITE: usize = 32 << 10;
const READ: usize = 256 << 10;

/// Measures and prints; false when messages were lost.
pub(crate) fn run(flags: &Flags) -> Result<bool> {
    let shared = Shared::new(&flags.work)?;
    let tls = flags.tls_ca.as_deref().map(Tls::load).transpose()?;
    for index in 0..flags.work.subs {
        let stream = flags.broker.subscriber(flags.addr, tls.as_ref(), index)?;
        let reader = Reader::new(flags.broker, stream, flags.work.size, index, Arc::clone(&shared));
        thread::Builder::new().stack_size(256 << 10).spawn(move || reader.run())?;
    }
    let publisher = Publisher::new(flags, tls.as_ref(), Arc::clone(&shared))?;
    measure(&flags.work, shared, publisher)
}

struct Publisher {
    stream: Stream,
    frame: Frame,
    size: usize,
    batch: Vec<u8>,
}

impl Publisher {
    fn new(flags: &Flags, tls: Option<&Tls>, shared: Arc<Shared>) -> Result<Self> {
        let (size, stream) = (flags.work.size, flags.broker.publisher(flags.addr, tls)?);
        // Redis answers each message. NATS, which alone is spoken to by TLS, says nothing but a PING now and then.
        if let Some(answers) = stream.try_clone()? {
            thread::spawn(move || drain(answers, &shared));
        }
        let batch = Vec::with_capacity(2 * WRITE + size);
        Ok(Self { stream, frame: flags.broker.published(size), size, batch })
    }
}

impl Publish for Publisher {
    fn push(&mut self, payload: Payload) -> Result<()> {
        self.batch.extend_from_slice(&self.frame.head);
        payload.append(self.size, &mut self.batch);
        self.batch.extend_from_slice(self.frame.tail);
        Ok(())
    }

    fn is_full(&self) -> bool {
        !self.batch.is_empty() && self.batch.len() + self.size >= WRITE
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.batch)?;
        self.batch.clear();
        Ok(())
    }
}

/// Takes what the broker tells a publisher. Its question whether we are there stays unanswered: an answer could come
/// between the halves of a message, and NATS closes only after several, minutes apart.
fn drain(mut stream: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; READ];
    while !shared.is_over() {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

struct Reader {
    broker: Broker,
    stream: Stream,
    frame: Frame,
    size: usize,
    index: usize,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are filled.
    filled: usize,
}

impl Reader {
    fn new(broker: Broker, stream: Stream, size: usize, index: usize, shared: Arc<Shared>) -> Self {
        let frame = broker.delivered(size);
        let buffer = vec![0; READ.max(2 * (frame.head.len() + size + frame.tail.len()))];
        Self { broker, stream, frame, size, index, shared, buffer, filled: 0 }
    }

    fn run(mut self) {
        while !self.shared.is_over() {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return,
                Ok(len) => self.filled += len,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => return,
            }
            if let Err(error) = self.take() {
                eprintln!("rivals: subscriber {}: {error}", self.index);
                return;
            }
        }
    }

    /// Takes all whole messages.
    fn take(&mut self) -> Result<()> {
        let head = self.frame.head.len();
        let whole = head + self.size + self.frame.tail.len();
        let (question, answer) = self.broker.heartbeat();
        let (mut at, mut count) = (0, 0);
        loop {
            let rest = &self.buffer[at..self.filled];
            if rest.starts_with(&self.frame.head) {
                if rest.len() < whole {
                    break;
                }
                self.shared.time(self.index, &rest[head..]);
                at += whole;
                count += 1;
            } else if !question.is_empty() && rest.starts_with(question) {
                self.stream.write_all(answer)?;
                at += question.len();
            } else if rest.len() >= head {
                let text = String::from_utf8_lossy(&rest[..head]);
                return Err(Error::new(ErrorKind::InvalidData, format!("unexpected {text:?}")));
            } else {
                break;
            }
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        if count > 0 {
            self.shared.count(self.index, count);
        }
        Ok(())
    }
}
