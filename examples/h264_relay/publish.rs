//! Reads a video from a file, a pipe or UDP, and publishes each of its access units as soon as it is whole.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kcpq_smol::{Client, Preset};
use smol::io::AsyncReadExt;
use smol::net::UdpSocket;
use smol::{Timer, Unblock};

use super::annex_b::{AccessUnits, is_key};

/// Where a video comes from.
pub(crate) enum Source {
    Stdin(Unblock<io::Stdin>),
    File(Unblock<std::fs::File>),
    Udp(UdpSocket),
}

impl Source {
    /// `-` is standard input, `udp://ADDR:PORT` what is sent there, all else a file.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn open(name: &str) -> io::Result<Self> {
        Ok(match (name, name.strip_prefix("udp://")) {
            ("-", _) => Self::Stdin(Unblock::new(io::stdin())),
            (_, Some(addr)) => Self::Udp(UdpSocket::bind(addr).await?),
            (path, None) => Self::File(Unblock::new(std::fs::File::open(path)?)),
        })
    }

    /// As many bytes as there are; 0 at the end. UDP has none.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stdin(stdin) => stdin.read(buffer).await,
            Self::File(file) => file.read(buffer).await,
            Self::Udp(socket) => Ok(socket.recv_from(buffer).await?.0),
        }
    }
}

/// Publishes a video until it ends, `fps` access units a second or as they come, and returns how many there were.
///
/// Headers say the number of each, when it was sent, and whether a decoder can begin with it. An empty message is the
/// end.
///
/// # Errors
/// What keeps it from being read or sent.
pub(crate) async fn publish(
    server: &str,
    subject: &str,
    source: &mut Source,
    fps: Option<u32>,
) -> Result<u64, Box<dyn Error>> {
    let client = Client::builder().name("h264 publisher").preset(Preset::VIDEO).connect(server).await?;
    let mut pace = fps.filter(|fps| *fps > 0).map(|fps| Timer::interval(Duration::from_secs(1) / fps));
    let mut units = AccessUnits::default();
    let mut buffer = vec![0; 64 << 10];
    let mut count = 0;
    loop {
        let len = source.read(&mut buffer).await?;
        units.push(&buffer[..len]);
        let mut whole = Vec::new();
        while let Some(unit) = units.next()? {
            whole.push(unit);
        }
        if len == 0 {
            whole.extend(std::mem::take(&mut units).finish());
        }
        for unit in whole {
            if let Some(pace) = &mut pace {
                smol::stream::StreamExt::next(pace).await;
            }
            let (frame, sent) = (count.to_string(), now().as_micros().to_string());
            let headers = [("Frame", &*frame), ("Sent", &*sent), ("Key", if is_key(&unit) { "yes" } else { "no" })];
            client.publish(subject, unit).headers(headers).await?;
            count += 1;
        }
        if len == 0 {
            client.publish(subject, "").header("Frame", &count.to_string()).await?;
            client.flush().await?;
            client.close().await?;
            return Ok(count);
        }
    }
}

/// Time since 1970: publisher and subscriber compare their clocks.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
