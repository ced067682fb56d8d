//! How fast messages are answered: by JetStream, which stores them, or by a subscriber, as requests are; through kcpq, or by a
//! client of NATS that does not wait for each, both with as many under way. For `scripts/compare --stored` and `--requests`, and
//! no part of the program.
//!
//! NATS is spoken by hand, so that no client library is in the way: one thread writes as many messages as the window has room
//! for, and reads the answers. Through kcpq it is the client that programs use, and each of so many tasks waits for its answer
//! before it publishes the next message. Whoever answers requests has a connection, and a thread, of its own.
//!
//! ```sh
//! cargo run --release -p kcpq-tools --bin answers -- nats 127.0.0.1:4222 --window 1000
//! cargo run --release -p kcpq-tools --bin answers -- kcpq 127.0.0.1:4000 --requests --window 1 --rate 1000
//! ```
//!
//! prints one JSON object: `msgs_per_s`, and `latency_us` from a publish to its answer. Without `--requests` the stream of the
//! subject has to be there.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use kcpq_smol::Client;
use serde_json::json;
use smol::{LocalExecutor, Timer};

/// How fast messages are answered.
#[derive(Debug, Parser)]
struct Flags {
    /// By what they are published
    #[arg(value_enum)]
    by: By,
    /// Where that listens
    addr: SocketAddr,
    /// Their subject, of which there is a stream, unless a subscriber answers
    #[arg(long, default_value = "compare.stored")]
    subject: String,
    /// They are requests: a subscriber answers them with what they bear
    #[arg(long)]
    requests: bool,
    /// Messages a second at most, if each is to wait for its time [default: as many as are answered]
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of each message
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Messages under way
    #[arg(long, default_value_t = 1_000)]
    window: usize,
    /// How long to publish
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Without kcpq: give each message an id, and a subject of its own for the acknowledgement, as servers of kcpq do, to see what
    /// that costs JetStream
    #[arg(long, conflicts_with = "requests")]
    ids: bool,
    /// How long to publish before measuring
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    warmup: Duration,
}

/// So long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Kcpq,
    Nats,
}

/// Answers, and when each message was published.
struct Tally {
    begin: Instant,
    end: Instant,
    count: u64,
    latency: Histogram<u64>,
    /// When the next message is to be published, and how long after it the one behind it, if it is not at once.
    next: Instant,
    pause: Duration,
}

impl Tally {
    fn new(flags: &Flags) -> Result<Self, Box<dyn Error>> {
        let begin = Instant::now() + flags.warmup;
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let pause = flags.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Ok(Self { begin, end: begin + flags.duration, count: 0, latency, next: Instant::now(), pause })
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// When the next message may be published.
    fn due(&mut self) -> Instant {
        let due = self.next.max(Instant::now());
        self.next = due + self.pause;
        due
    }

    fn answered(&mut self, published: Instant) {
        let now = Instant::now();
        if (self.begin..self.end).contains(&now) {
            self.count += 1;
            self.latency.saturating_record(now.duration_since(published).as_micros() as u64);
        }
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let measured = match flags.by {
        By::Kcpq => by_kcpq(&flags),
        By::Nats => by_nats(&flags),
    };
    match measured {
        Ok(Tally { begin, end, count, latency, .. }) => {
            let rate = count as f64 / end.duration_since(begin).as_secs_f64();
            let at = |quantile| latency.value_at_quantile(quantile);
            println!("{}", json!({ "msgs_per_s": rate, "latency_us": { "p50": at(0.5), "p99": at(0.99) } }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("answers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn by_kcpq(flags: &Flags) -> Result<Tally, Box<dyn Error>> {
    let tally = Rc::new(RefCell::new(Tally::new(flags)?));
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        if flags.requests {
            let responder = Client::connect(flags.addr).await?;
            let mut asked = responder.subscribe(&flags.subject).await?;
            std::thread::spawn(move || {
                smol::block_on(async {
                    while let Some(question) = asked.next().await {
                        question.respond(&responder, question.payload()).await?;
                    }
                    Ok::<(), kcpq_smol::PublishError>(())
                })
            });
        }
        let client = Client::connect(flags.addr).await?;
        let payload = vec![b'x'; flags.size];
        let publishers = (0..flags.window).map(|_| {
            let (client, payload, tally) = (client.clone(), payload.clone(), Rc::clone(&tally));
            executor.spawn(async move {
                while !tally.borrow().is_over() {
                    if flags.rate.is_some() {
                        let due = tally.borrow_mut().due();
                        Timer::at(due).await;
                    }
                    let published = Instant::now();
                    if flags.requests {
                        client.request(&flags.subject, &payload).within(PATIENCE).await?;
                    } else {
                        client.publish(&flags.subject, &payload).stored().within(PATIENCE).await?;
                    }
                    tally.borrow_mut().answered(published);
                }
                Ok::<(), Box<dyn Error>>(())
            })
        });
        for publisher in publishers.collect::<Vec<_>>() {
            publisher.await?;
        }
        client.close().await?;
        Ok::<(), Box<dyn Error>>(())
    }))?;
    drop(executor);
    Ok(Rc::into_inner(tally).ok_or("a publisher goes on")?.into_inner())
}

fn by_nats(flags: &Flags) -> Result<Tally, Box<dyn Error>> {
    if flags.requests {
        let (mut input, mut output) = nats(flags.addr, &flags.subject)?;
        std::thread::spawn(move || answer(&mut input, &mut output));
    }
    let (mut input, mut output) = nats(flags.addr, "_INBOX.answers.*")?;
    let payload = "x".repeat(flags.size);
    let plain = format!("PUB {} _INBOX.answers.all {}\r\n{payload}\r\n", flags.subject, flags.size);
    let (mut tally, mut under_way, mut body) = (Tally::new(flags)?, VecDeque::new(), Vec::new());
    let mut line = String::new();
    let (mut number, mut messages) = (0_u64, Vec::new());
    loop {
        let room = if tally.is_over() { 0 } else { flags.window.saturating_sub(under_way.len()) };
        if room > 0 {
            if flags.rate.is_some() {
                std::thread::sleep(tally.due().saturating_duration_since(Instant::now()));
            }
            let now = Instant::now();
            messages.clear();
            for _ in 0..room {
                number += 1;
                if flags.ids {
                    let id = format!("NATS/1.0\r\nNats-Msg-Id: kcpq0000000000000000-{number}\r\n\r\n");
                    let (subject, all) = (&flags.subject, id.len() + flags.size);
                    write!(messages, "HPUB {subject} _INBOX.answers.{number} {} {all}\r\n{id}{payload}\r\n", id.len())?;
                } else {
                    messages.extend_from_slice(plain.as_bytes());
                }
            }
            output.write_all(&messages)?;
            under_way.extend(std::iter::repeat_n(now, room));
        }
        if under_way.is_empty() {
            return Ok(tally);
        }
        // What has come is read before more is written.
        loop {
            line.clear();
            input.read_line(&mut line)?;
            let mut words = line.split_whitespace();
            match words.next() {
                Some("MSG") => {
                    let len: usize = words.next_back().ok_or("a MSG without a length")?.parse()?;
                    body.resize(len + 2, 0);
                    input.read_exact(&mut body)?;
                    // They come in order.
                    if !flags.requests && body.windows(7).any(|part| part == b"\"error\"") {
                        return Err(format!("not stored: {}", String::from_utf8_lossy(&body)).into());
                    }
                    tally.answered(under_way.pop_front().ok_or("more answers than messages")?);
                }
                Some("HMSG") => return Err("nobody has the subject".into()),
                Some("PING") => output.write_all(b"PONG\r\n")?,
                Some("-ERR") => return Err(line.into()),
                Some(_) => {}
                None => return Err("the server has closed the connection".into()),
            }
            if input.buffer().is_empty() {
                break;
            }
        }
    }
}

/// A connection to a NATS server that is subscribed to something.
fn nats(addr: SocketAddr, subject: &str) -> Result<(BufReader<TcpStream>, TcpStream), Box<dyn Error>> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::with_capacity(256 << 10, stream);
    input.read_line(&mut String::new())?;
    let options = r#"{"verbose":false,"headers":true,"no_responders":true,"protocol":1}"#;
    output.write_all(format!("CONNECT {options}\r\nSUB {subject} 1\r\nPING\r\n").as_bytes())?;
    let mut line = String::new();
    while !line.starts_with("PONG") {
        line.clear();
        if input.read_line(&mut line)? == 0 || line.starts_with("-ERR") {
            return Err(format!("the NATS server refuses: {line}").into());
        }
    }
    Ok((input, output))
}

/// Answers requests with what they bear, until the connection ends.
fn answer(input: &mut BufReader<TcpStream>, output: &mut TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (mut line, mut body, mut answers) = (String::new(), Vec::new(), Vec::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["MSG", _, _, reply, len] => {
                body.resize(len.parse::<usize>()? + 2, 0);
                input.read_exact(&mut body)?;
                write!(answers, "PUB {reply} {len}\r\n")?;
                answers.extend_from_slice(&body);
            }
            ["PING"] => answers.extend_from_slice(b"PONG\r\n"),
            _ => {}
        }
        if input.buffer().is_empty() {
            output.write_all(&answers)?;
            answers.clear();
        }
    }
}
