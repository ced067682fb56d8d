//! `kcpq serve`.

mod file;
mod http;
mod policy;
mod reread;
mod settings;
mod supervisor;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::ParseIntError;
use std::panic;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use async_signal::{Signal, Signals};
use clap::{Parser, ValueEnum};
use futures_lite::StreamExt;
use futures_lite::future::{or, pending};
use kcpq_core::broker::{self, HandshakeLimits, Keys, SlowConsumer};
use kcpq_core::datagram::{Framing, PATH_DATAGRAM, USUAL_DATAGRAM};
use kcpq_core::fec::header::Shards;
use kcpq_core::kcp::{self, CongestionControl};
use kcpq_core::{frame, subject};
use kcpq_smol::{Address, AddressError};
use kcpq_std_server::access::Access;
use kcpq_std_server::limits::{MIN_IDLE_TIMEOUT, MIN_MESSAGE};
use kcpq_std_server::{Config, Server, View};
use smol::channel::Receiver;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

use self::http::{About, Http};
use self::reread::Reread;
use self::settings::Settings;
use super::key::load;
use super::log::Log;
use super::{Failure, KeyArg, parse_size, signals};

/// The flags of `kcpq serve`.
#[derive(Debug, Parser)]
pub(super) struct Serve {
    /// Configuration file (TOML). Flags win over the environment, and both over the file. It is read again at SIGHUP
    #[arg(short, long, env = "KCPQ_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, print what would be in force and where it was said, and exit
    #[arg(long)]
    check: bool,
    /// Address to listen on, HOST:PORT; without a port 4000. Of a name's addresses an IPv4 one is preferred. One that other
    /// machines can reach needs a key, or --open
    #[arg(short, long, env = "KCP_NATS_ADDR", default_value = "127.0.0.1:4000", value_name = "ADDR",
          value_parser = parse_listen)]
    listen: Address,
    /// Let everybody in who can reach the address, as the original without a key does
    #[arg(long)]
    open: bool,
    /// Show sessions, subscriptions and metrics over HTTP there: in a browser, and as /healthz, /metrics, /varz,
    /// /connz, /subsz. HOST:PORT, or a port alone for this machine
    #[arg(long, value_name = "ADDR", value_parser = http::parse)]
    http: Option<String>,
    /// Show that to everybody who can reach the address given by --http: who is connected from where, and what patterns they
    /// have
    #[arg(long)]
    http_open: bool,
    /// Number of server threads, or auto for one per processor; each serves its own clients. More than one needs Linux
    #[arg(long, default_value = "1", value_name = "N", value_parser = parse_shards)]
    shards: usize,
    /// Name of the server, as reported to clients
    #[arg(long, default_value = "kcpq")]
    name: String,
    /// Maximum number of sessions
    #[arg(long, default_value_t = 65_536, value_name = "N", value_parser = parse_count::<usize>)]
    max_sessions: usize,
    /// Maximum number of sessions from one IP address
    #[arg(long, default_value_t = 4_096, value_name = "N", value_parser = parse_count::<usize>)]
    max_sessions_per_host: usize,
    /// Maximum number of subscriptions per session
    #[arg(long, default_value_t = 65_536, value_name = "N", value_parser = parse_count::<usize>)]
    max_subscriptions: usize,
    /// Maximum size of a message, subject included
    #[arg(long, default_value = "8M", value_name = "SIZE", value_parser = parse_max_message)]
    max_message: u32,
    /// Maximum number of tokens in a subject
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = parse_count::<u8>)]
    max_tokens: u8,
    /// Maximum size of the queue of one subscriber
    #[arg(long, default_value = "32M", value_name = "SIZE", value_parser = parse_size)]
    max_queued: usize,
    /// Maximum size of the queues of all subscribers together
    #[arg(long, default_value = "1G", value_name = "SIZE", value_parser = parse_size)]
    max_queued_total: usize,
    /// Maximum memory for what has come from all clients together and waits: parts of messages, what was lost before it
    #[arg(long, default_value = "512M", value_name = "SIZE", value_parser = parse_size)]
    max_received_total: usize,
    /// What to do when the queue of a subscriber is full
    #[arg(long, value_enum, default_value_t = Slow::DropNewest, value_name = "POLICY")]
    slow_consumer: Slow,
    /// End a session when nothing has been received for this long
    #[arg(long, default_value = "120s", value_name = "DURATION", value_parser = parse_idle_timeout)]
    idle_timeout: Duration,
    /// Maximum time to deliver pending messages when stopping
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    linger: Duration,
    /// Maximum datagram size towards other machines, in bytes of UDP payload. Native clients get as much of it as path
    /// MTU discovery allows, original ones at most 1400
    #[arg(long, default_value_t = PATH_DATAGRAM, value_name = "BYTES",
          value_parser = clap::value_parser!(u16).range(256..=9_000))]
    max_datagram: u16,
    /// File with the server's private key, as `kcpq key new` makes it: clients that know the public one get sealed sessions
    #[arg(long = "key", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// File with a secret that clients have as well, as `kcpq key shared` makes it: they get sealed sessions
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Handshakes of sealed sessions in a second, for each thread, from which on clients first have to show that they
    /// are where they say they are, by a cookie; 0: always
    #[arg(long, default_value_t = HandshakeLimits::default().before_retry, value_name = "N")]
    handshakes_before_retry: u32,
    /// Maximum number of handshakes of sealed sessions in a second, for each thread
    #[arg(long, default_value_t = HandshakeLimits::default().per_second, value_name = "N",
          value_parser = parse_count::<u32>)]
    handshakes_per_second: u32,
    /// Maximum number of handshakes that wait for the client to confirm its session, for each thread; the oldest makes
    /// room
    #[arg(long, default_value_t = HandshakeLimits::default().unconfirmed, value_name = "N",
          value_parser = parse_count::<usize>)]
    handshakes_unconfirmed: usize,
    #[command(flatten)]
    key: KeyArg,
    /// Send FEC parity to original (Go) clients: 30 % more bytes, fewer retransmission delays on a lossy link
    #[arg(long)]
    compat_parity: bool,
    /// Congestion control towards other machines
    #[arg(long, value_enum, default_value_t = Congestion::Rate, value_name = "CONTROL")]
    congestion: Congestion,
    /// Maximum redundancy for small messages on lossy links, in percent; 0 sends only what was lost
    #[arg(long, default_value_t = 100, value_name = "PERCENT")]
    redundancy: u16,
    /// File in which the server keeps its secret and where its clients are, so that those who only listen are back at once
    /// after it was killed; none keeps nothing. By default a file for each address in $STATE_DIRECTORY, or in kcpq below
    /// $XDG_STATE_HOME or ~/.local/state
    #[arg(long, env = "KCPQ_REGISTER", value_name = "FILE")]
    register: Option<PathBuf>,
    /// Log level: off, error, warn, info, debug or trace
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log_level: LevelFilter,
}

/// [`SlowConsumer`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Slow {
    /// Drop the new message
    DropNewest,
    /// Drop the oldest message in the queue
    DropOldest,
    /// Close the subscriber's session
    Disconnect,
}

/// [`CongestionControl`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Congestion {
    /// By measured bandwidth (BBR): fills a link but not its queues, and tolerates loss
    Rate,
    /// KCP's congestion window (nc=0), which halves on loss
    Kcp,
    /// None, as in the original (nc=1): only for links with bandwidth to spare
    Off,
}

/// An address to listen on; `:4000` is taken as the original's programs do.
fn parse_listen(text: &str) -> Result<Address, AddressError> {
    if text.starts_with(':') { format!("0.0.0.0{text}").parse() } else { text.parse() }
}

/// A number of shards.
fn parse_shards(text: &str) -> Result<usize, String> {
    let most = Config::MAX_SHARDS;
    if text == "auto" {
        return Ok(std::thread::available_parallelism().map_or(1, |count| count.get().min(most)));
    }
    match text.parse() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => Err(format!("'{text}' is not a number of shards: use 1 to {most}, or auto")),
    }
}

/// A limit on things of which every client needs one.
fn parse_count<T: FromStr<Err = ParseIntError> + From<u8> + PartialOrd>(text: &str) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(count) if count < T::from(1) => Err("it has to be at least 1".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

/// A limit on messages; the frame's field for its length has 32 bits.
fn parse_max_message(text: &str) -> Result<u32, String> {
    match parse_size(text)? {
        size if size < MIN_MESSAGE as usize => {
            Err(format!("it has to be at least {MIN_MESSAGE}, so that clients can connect"))
        }
        size => u32::try_from(size).map_err(|_| "it has to be less than 4G".into()),
    }
}

/// A limit on silence. Clients are told of it in whole seconds.
fn parse_idle_timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span < MIN_IDLE_TIMEOUT => Err("it has to be at least 1s".into()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

impl Serve {
    /// Does what the flags say.
    pub(super) fn run(self) -> Result<(), Failure> {
        // Without a command there are none; otherwise the name of the program and the command stand before them.
        let arguments: Vec<OsString> = env::args_os().skip(2).collect();
        let settings = Settings::load(&arguments, self.config.as_deref()).map_err(Failure::Error)?;
        if self.check {
            return settings.serve.check(&settings);
        }
        let log = Log::start(io::stderr())?;
        let (filter, level) = reload::Layer::new(settings.serve.log_level);
        let lines = fmt::layer().with_writer(log.clone()).with_ansi(io::stderr().is_terminal());
        tracing_subscriber::registry().with(filter).with(lines).init();
        // The usual way would wait for standard error.
        panic::set_hook(Box::new(|info| tracing::error!("{info}")));
        let set_level = Box::new(move |wanted| drop(level.reload(wanted)));
        let result = serve(Reread { arguments, settings, set_level });
        log.finish(LAST_LINES);
        result
    }

    /// Says what would be in force, and whether the server would start with it, as far as that can be said without trying.
    fn check(&self, settings: &Settings) -> Result<(), Failure> {
        self.config(settings.access.clone())?;
        io::stdout().write_all(settings.describe().as_bytes())?;
        Ok(())
    }

    /// Of a name's addresses the one that the original's programs take.
    fn listen_addr(&self) -> Result<SocketAddr, Failure> {
        let cannot = |why| Failure::Error(format!("cannot listen on {}: {why}", self.listen));
        let found = async_io::block_on(self.listen.resolve()).map_err(|error| cannot(error.to_string()))?;
        let preferred = found.iter().find(|addr| addr.is_ipv4()).or_else(|| found.first());
        preferred.copied().ok_or_else(|| cannot("it has no address".into()))
    }

    /// The file for what outlives the server. One that takes any port does not come back to the same.
    fn register(&self, listen: SocketAddr) -> Option<PathBuf> {
        match &self.register {
            Some(none) if none.as_os_str() == "none" => None,
            Some(file) => Some(file.clone()),
            None if listen.port() == 0 => None,
            None => {
                let address = format!("{}-{}", listen.ip(), listen.port()).replace(':', "_");
                Some(state_folder()?.join(format!("register-{address}")))
            }
        }
    }

    /// # Errors
    /// Also if nobody may listen there like that.
    fn config(&self, access: Option<Access>) -> Result<Config, Failure> {
        let defaults = broker::Config::default();
        let (listen, compat_key) = (self.listen_addr()?, self.key.read()?);
        let keys = Keys {
            key: self.key_file.as_deref().map(load).transpose()?,
            secret: self.secret_file.as_deref().map(load).transpose()?,
        };
        // Who has keys made means that nobody is let in without, unless it is said.
        let sealed = keys.key.is_some() || keys.secret.is_some();
        let access = access.or_else(|| (sealed && !self.open).then(Access::with_keys));
        let closed = compat_key.is_some() && !sealed || access.as_ref().is_some_and(policy::needs_keys);
        policy::check(listen, closed, self.open).map_err(Failure::Error)?;
        Ok(Config {
            listen,
            keys,
            register: self.register(listen),
            shards: self.shards,
            access,
            compat_key,
            broker: broker::Config {
                name: self.name.as_str().into(),
                max_sessions: self.max_sessions,
                max_sessions_per_host: self.max_sessions_per_host,
                max_subscriptions: self.max_subscriptions,
                frames: frame::Limits { max_body: self.max_message, ..defaults.frames },
                subjects: subject::Limits { max_tokens: self.max_tokens, ..defaults.subjects },
                max_queued: self.max_queued,
                max_queued_total: self.max_queued_total,
                max_received_total: self.max_received_total,
                handshakes: HandshakeLimits {
                    before_retry: self.handshakes_before_retry,
                    per_second: self.handshakes_per_second,
                    unconfirmed: self.handshakes_unconfirmed,
                },
                slow_consumer: match self.slow_consumer {
                    Slow::DropNewest => SlowConsumer::DropNewest,
                    Slow::DropOldest => SlowConsumer::DropOldest,
                    Slow::Disconnect => SlowConsumer::Disconnect,
                },
                max_datagram: self.max_datagram.min(USUAL_DATAGRAM),
                native_datagram: self.max_datagram,
                idle_timeout: self.idle_timeout.into(),
                kcp: kcp::Config {
                    congestion: match self.congestion {
                        Congestion::Rate => CongestionControl::Bbr,
                        Congestion::Kcp => CongestionControl::Kcp,
                        Congestion::Off => CongestionControl::Off,
                    },
                    redundancy: self.redundancy,
                    ..defaults.kcp
                },
                linger: self.linger.into(),
                compat_framing: if self.compat_parity {
                    Framing::Parity(Shards::KCPQ)
                } else {
                    defaults.compat_framing
                },
                ..defaults
            },
        })
    }
}

/// Says what a server would make of a configuration file, in a line.
///
/// # Errors
/// For people: why it would not start with it.
pub(super) fn check_file(path: &Path) -> Result<String, String> {
    let settings = Settings::load(&[], Some(path))?;
    match settings.serve.config(settings.access.clone()) {
        Ok(config) => Ok(format!("{} is in order; a server would listen on {}", path.display(), config.listen)),
        Err(Failure::Error(why) | Failure::Timeout(why)) => Err(why),
    }
}

/// Where a program keeps what is worth nothing elsewhere: what systemd gives a service, or what the XDG Base Directory
/// Specification gives a user.
fn state_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let of_user = || Some(set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?.join("kcpq"));
    set("STATE_DIRECTORY").or_else(of_user)
}

/// Serves until a signal comes, or a thread of the server fails.
fn serve(mut reread: Reread) -> Result<(), Failure> {
    let serve = &reread.settings.serve;
    let of_http = if serve.http.is_some() { DESCRIPTORS_OF_HTTP } else { 0 };
    reserve_descriptors(DESCRIPTORS + of_http + DESCRIPTORS_OF_A_SHARD * serve.shards)?;
    // Before the first client can come, so that a signal is never missed.
    let mut signals = signals::of_a_server()?;
    let config = serve.config(reread.settings.access.clone())?;
    let open = config.compat_key.is_none() && config.access.is_none();
    let http =
        serve.http.as_deref().map(|addr| http::listen(addr, serve.http_open)).transpose().map_err(Failure::Error)?;
    let about = About {
        name: config.broker.name.to_string(),
        started: SystemTime::now(),
        max_sessions: config.broker.max_sessions,
        max_message: config.broker.frames.max_body,
        max_queued: config.broker.max_queued,
        max_queued_total: config.broker.max_queued_total,
    };
    let server = Server::bind(config)?;
    let (fail, failure) = smol::channel::bounded(1);
    server.on_failure(move || {
        // The only one, so there is room.
        let _ = fail.try_send(());
    });
    announce(server.local_addr());
    // Until the server has ended.
    let _http = http.map(|listener| monitor(listener, server.view(), about)).transpose()?;
    supervisor::ready(server.local_addr());
    if open {
        let whom = if policy::is_local(server.local_addr()) { "on this machine" } else { "who reaches this address" };
        tracing::info!("open: everybody {whom} may read and publish everything");
    }
    async_io::block_on(async {
        let view = server.view();
        let end = or(end_by_signal(&mut signals, || reread.run(&server)), end_by_failure(&failure));
        let end = or(end, async { match supervisor::watch(view).await {} }).await;
        supervisor::stopping();
        match end {
            End::Signal(signal) => tracing::info!(?signal, "stopping"),
            End::Failure => tracing::error!("a thread of the server has failed: stopping"),
        }
        let stop = async {
            smol::unblock(move || server.shutdown()).await;
            None
        };
        match (or(stop, async { Some(end_by_signal(&mut signals, || ()).await) }).await, end) {
            (Some(_), _) => Err(Failure::Error("ended at once by a second signal".into())),
            (None, End::Failure) => Err(Failure::Error("a thread of the server has failed".into())),
            (None, End::Signal(_)) => Ok(()),
        }
    })
}

/// How long the last lines of the log may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);
/// Files that the program needs beside the shards (the reactor, signals, looking up names), and that each of these needs
/// (its socket, and to wait for it).
const DESCRIPTORS: usize = 24;
const DESCRIPTORS_OF_A_SHARD: usize = 4;
const DESCRIPTORS_OF_HTTP: usize = http::MAX_CONNECTIONS + 2;

/// Why the server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Signal(Signal),
    Failure,
}

/// Waits for a signal that ends the program; at SIGHUP does something else.
async fn end_by_signal(signals: &mut Signals, mut at_hup: impl FnMut()) -> End {
    loop {
        match signals.next().await {
            Some(Ok(signal)) if signals::ends(signal) => return End::Signal(signal),
            Some(Ok(Signal::Hup)) => at_hup(),
            Some(Ok(signal)) => tracing::info!(?signal, "no use for this signal"),
            Some(Err(error)) => tracing::error!(%error, "cannot wait for signals"),
            None => return pending().await,
        }
    }
}

async fn end_by_failure(failure: &Receiver<()>) -> End {
    match failure.recv().await {
        Ok(()) => End::Failure,
        Err(_) => pending().await,
    }
}

/// For scripts that wait for it. Whoever closed standard output does not want to know, and is served all the same.
fn announce(addr: SocketAddr) {
    let mut out = io::stdout();
    if let Err(error) = writeln!(out, "listening on {addr}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "cannot write to standard output");
    }
    tracing::info!(%addr, "listening");
}

/// Begins to answer over HTTP, and says where.
fn monitor(listener: TcpListener, view: View, about: About) -> io::Result<Http> {
    let addr = listener.local_addr()?;
    let http = Http::start(listener, view, about)?;
    let mut out = io::stdout();
    if let Err(error) = writeln!(out, "monitoring on http://{addr}").and_then(|()| out.flush()) {
        tracing::warn!(%error, "cannot write to standard output");
    }
    tracing::info!(%addr, "monitoring over HTTP");
    Ok(http)
}

/// Finds out whether so many files can be opened, since not all that need some can say that there are none.
fn reserve_descriptors(count: usize) -> Result<(), Failure> {
    let pipes: Result<Vec<_>, _> = (0..count.div_ceil(2)).map(|_| io::pipe()).collect();
    pipes.map(drop).map_err(|error| {
        Failure::Error(format!("cannot open the {count} files that a server needs (see ulimit -n): {error}"))
    })
}
