//! What the brokers speak, as far as this needs it.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::tls::{Stream, Tls};

/// A broker's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Broker {
    /// The NATS client protocol
    Nats,
    /// MQTT 3.1.1, QoS 0
    Mqtt,
    /// RESP 2, Redis's
    Redis,
}

/// The bytes around a payload.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) head: Vec<u8>,
    pub(crate) tail: &'static [u8],
}

const SUBJECT: &str = "bench";
/// Silence that counts as a failure.
const PATIENCE: Duration = Duration::from_secs(10);

impl Broker {
    /// How a message of `size` bytes is published.
    pub(crate) fn published(self, size: usize) -> Frame {
        match self {
            Self::Nats => Frame { head: format!("PUB {SUBJECT} {size}\r\n").into(), tail: b"\r\n" },
            Self::Mqtt => Frame { head: mqtt_publish(size), tail: b"" },
            Self::Redis => Frame { head: resp(&["PUBLISH", SUBJECT], 3, size), tail: b"\r\n" },
        }
    }

    /// How it arrives.
    pub(crate) fn delivered(self, size: usize) -> Frame {
        match self {
            Self::Nats => Frame { head: format!("MSG {SUBJECT} 1 {size}\r\n").into(), tail: b"\r\n" },
            Self::Mqtt => Frame { head: mqtt_publish(size), tail: b"" },
            Self::Redis => Frame { head: resp(&["message", SUBJECT], 3, size), tail: b"\r\n" },
        }
    }

    /// What a broker sends between messages to see whether a subscriber is there, and the answer.
    pub(crate) fn heartbeat(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Nats => (b"PING\r\n", b"PONG\r\n"),
            // Clients ask here, if at all.
            Self::Mqtt | Self::Redis => (b"", b""),
        }
    }

    /// A connection of a publisher, by TLS if it is given.
    pub(crate) fn publisher(self, addr: SocketAddr, tls: Option<&Tls>) -> Result<Stream> {
        let mut stream = self.connect(addr, tls)?;
        match self {
            Self::Nats => nats_hello(&mut stream)?,
            Self::Mqtt => mqtt_hello(&mut stream, "pub")?,
            Self::Redis => {}
        }
        Ok(stream)
    }

    /// A connection of a subscriber that has its subscription.
    pub(crate) fn subscriber(self, addr: SocketAddr, tls: Option<&Tls>, index: usize) -> Result<Stream> {
        let mut stream = self.connect(addr, tls)?;
        match self {
            Self::Nats => {
                nats_hello(&mut stream)?;
                stream.write_all(format!("SUB {SUBJECT} 1\r\nPING\r\n").as_bytes())?;
                expect(&mut stream, b"PONG\r\n")?;
            }
            Self::Mqtt => {
                mqtt_hello(&mut stream, &format!("sub{index}"))?;
                // SUBSCRIBE, packet 1, QoS 0; SUBACK.
                let mut packet = vec![0x82, (5 + SUBJECT.len()) as u8, 0, 1];
                mqtt_string(&mut packet, SUBJECT);
                packet.push(0);
                stream.write_all(&packet)?;
                expect(&mut stream, &[0x90, 3, 0, 1, 0])?;
            }
            Self::Redis => {
                stream.write_all(format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{SUBJECT}\r\n", SUBJECT.len()).as_bytes())?;
                let answer = format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{SUBJECT}\r\n:1\r\n", SUBJECT.len());
                expect(&mut stream, answer.as_bytes())?;
            }
        }
        Ok(stream)
    }

    /// A connection of which nothing was said yet but NATS's INFO, which comes first, in plain.
    fn connect(self, addr: SocketAddr, tls: Option<&Tls>) -> Result<Stream> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut stream = Stream::plain(stream);
        if self == Self::Nats {
            let mut byte = [0];
            while byte != *b"\n" {
                stream.read_exact(&mut byte)?;
            }
        }
        match tls {
            Some(tls) => stream.secure(tls),
            None => Ok(stream),
        }
    }
}

/// We say who we are, without an answer to each message, and ask whether that is heard.
fn nats_hello(stream: &mut Stream) -> Result<()> {
    stream
        .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"raw\",\"version\":\"1\"}\r\nPING\r\n")?;
    expect(stream, b"PONG\r\n")
}

/// CONNECT with a clean session and no keep-alive; CONNACK.
fn mqtt_hello(stream: &mut Stream, name: &str) -> Result<()> {
    let mut packet = vec![0x10, (12 + name.len()) as u8];
    mqtt_string(&mut packet, "MQTT");
    packet.extend([4, 2, 0, 0]);
    mqtt_string(&mut packet, name);
    stream.write_all(&packet)?;
    expect(stream, &[0x20, 2, 0, 0])
}

/// The head of PUBLISH with QoS 0: type, remaining length (7 bits a byte, low ones first), topic.
fn mqtt_publish(size: usize) -> Vec<u8> {
    let mut head = vec![0x30];
    let mut rest = 2 + SUBJECT.len() + size;
    while rest >= 0x80 {
        head.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    head.push(rest as u8);
    mqtt_string(&mut head, SUBJECT);
    head
}

fn mqtt_string(packet: &mut Vec<u8>, text: &str) {
    packet.extend((text.len() as u16).to_be_bytes());
    packet.extend(text.as_bytes());
}

/// The head of an array of `count` strings, of which the last one is a payload.
fn resp(words: &[&str], count: usize, size: usize) -> Vec<u8> {
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{count}\r\n{words}${size}\r\n").into()
}

fn expect(stream: &mut Stream, answer: &[u8]) -> Result<()> {
    let mut found = vec![0; answer.len()];
    stream.read_exact(&mut found)?;
    if found == answer {
        return Ok(());
    }
    let text = format!("the broker answered {:?}", String::from_utf8_lossy(&found));
    Err(Error::new(ErrorKind::InvalidData, text))
}
