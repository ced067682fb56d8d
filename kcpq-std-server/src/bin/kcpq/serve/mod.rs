//! `kcpq serve`.

mod file;
pub(crate) mod flood;
pub(crate) mod http;
pub(crate) mod logging;
mod nats;
pub(crate) mod policy;
mod reread;
mod run;
mod settings;
pub(crate) mod supervisor;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::ParseIntError;
use std::panic;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kcpq_core::broker::{self, Audience, HandshakeLimits, Keys, LastValues, SlowConsumer};
use kcpq_core::datagram::{Framing, PATH_DATAGRAM, USUAL_DATAGRAM};
use kcpq_core::fec::header::Shards;
use kcpq_core::hello::MAX_SUCCESSORS;
use kcpq_core::kcp::{self, CongestionControl};
use kcpq_core::subject::Pattern;
use kcpq_core::{frame, subject};
use kcpq_smol::{Address, AddressError};
use kcpq_std_server::Config;
use kcpq_std_server::access::Access;
use kcpq_std_server::limits::{MIN_IDLE_TIMEOUT, MIN_MESSAGE};
use tracing_subscriber::filter::Targets;

use self::logging::{Format, Logging};
use self::nats::Nats;
use self::reread::Reread;
use self::settings::Settings;
use super::key::load;
use super::preset::Preset;
use super::{Failure, KeyArg, parse_size};

/// How long the last lines of the log may take to be written.
pub(crate) const LAST_LINES: Duration = Duration::from_millis(500);

/// The flags of `kcpq serve`.
#[derive(Debug, Parser)]
pub(super) struct Serve {
    /// Configuration file (TOML). Flags win over the environment, and both over the file. It is read again at SIGHUP
    #[arg(short, long, env = "KCPQ_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, print what would be in force and where it was said, and exit
    #[arg(long)]
    check: bool,
    /// Address to listen on, HOST:PORT; without a port 4000. May be given several times, or several, separated by commas. Of a
    /// name's addresses an IPv4 one is preferred. One that other machines can reach needs a key, or --open
    #[arg(short, long, env = "KCP_NATS_ADDR", default_value = "127.0.0.1:4000", value_name = "ADDR",
          value_delimiter = ',', value_parser = parse_listen)]
    listen: Vec<Address>,
    /// Let everybody in who can reach the address, as the original without a key does
    #[arg(long)]
    open: bool,
    /// Show sessions, subscriptions and metrics over HTTP there: in a browser, and as /healthz, /metrics, /varz,
    /// /connz, /subsz, /keptz. HOST:PORT, or a port alone for this machine
    #[arg(long, value_name = "ADDR", value_parser = http::parse)]
    http: Option<String>,
    /// Show that to everybody who can reach the address given by --http: who is connected from where, and what patterns
    /// and subjects there are
    #[arg(long)]
    http_open: bool,
    /// Show messages there as well: of subjects that this pattern matches, as far as a client that proves nothing may have them.
    /// May be given several times; empty for none. Unless it is given all are shown if nobody else can reach either address
    /// and there are no rules, and none otherwise
    #[arg(long, value_name = "PATTERN", value_parser = parse_http_subscribe)]
    http_subscribe: Vec<String>,
    /// Take clients there that speak the protocol over a WebSocket, as /ws: browsers, by /kcpq.js. They may what clients without a
    /// key may that are not on this machine, or what the token lets them that they show
    #[arg(long)]
    http_ws: bool,
    /// Let pages of this origin come by WebSocket, a scheme, a host and a port if need be, besides those that are here; * lets
    /// all. May be given several times
    #[arg(long, value_name = "ORIGIN", value_parser = parse_origin)]
    http_ws_origin: Vec<String>,
    /// Maximum number of clients that come by WebSocket. Each takes a file of those that the server may open (ulimit -n)
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = parse_count::<usize>)]
    http_ws_max: usize,
    /// Number of server threads, or auto for one per processor; each serves its own clients. More than one needs Linux
    #[arg(long, default_value = "1", value_name = "N", value_parser = parse_shards)]
    shards: usize,
    /// For how long a server thread looks for the next datagram before it sleeps: single messages are faster by tens of
    /// microseconds, and each thread takes a processor all the time if datagrams come more often than that
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    spin: Duration,
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
    /// From this size of its queue on a subscriber holds back those who publish to it
    #[arg(long, default_value = "4M", value_name = "SIZE", value_parser = parse_some_size)]
    high_water: usize,
    /// Maximum time that a subscriber holds them back although nothing leaves its queue
    #[arg(long, default_value = "250ms", value_name = "DURATION", value_parser = humantime::parse_duration)]
    throttle_for: Duration,
    /// Maximum share of its time that a publisher is held back at the cost of subscribers that keep up, in percent
    #[arg(long, default_value_t = 5, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    throttle_share: u8,
    /// Patterns of subjects whose last value is kept for those who subscribe later, whoever publishes it, separated by
    /// spaces. That of others is kept if their publishers want it
    #[arg(long, value_name = "PATTERNS", value_delimiter = ' ', value_parser = parse_pattern)]
    keep: Vec<Box<str>>,
    /// Maximum number of subjects whose last value is kept; 0 keeps none
    #[arg(long, default_value_t = 65_536, value_name = "N")]
    max_kept: usize,
    /// Maximum memory for all last values together
    #[arg(long, default_value = "64M", value_name = "SIZE", value_parser = parse_size)]
    max_kept_total: usize,
    /// Maximum size of one last value, subject included
    #[arg(long, default_value = "1M", value_name = "SIZE", value_parser = parse_size)]
    max_kept_size: usize,
    /// File for the last values, so that they outlive the server: written within a second or so of a change, and at the
    /// end
    #[arg(long, value_name = "FILE")]
    kept_file: Option<PathBuf>,
    /// Give last values to original clients as well, which cannot tell them from new messages
    #[arg(long)]
    kept_for_original: bool,
    /// Who may subscribe to $KCPQ.>, where the server says who comes and goes and what they subscribe to
    #[arg(long, value_enum, default_value_t = To::Nobody, value_name = "WHO")]
    presence: To,
    /// Say there as well from which address a client comes
    #[arg(long)]
    presence_addresses: bool,
    /// Maximum number of messages there in a second; what is more is counted, and the count is told
    #[arg(long, default_value_t = broker::Presence::default().per_second, value_name = "N", value_parser = parse_count::<u32>)]
    presence_per_second: u32,
    /// Maximum size of a last will, subject included; 0 takes none
    #[arg(long, default_value = "16k", value_name = "SIZE", value_parser = parse_size)]
    max_will: usize,
    /// Maximum size of all last wills together
    #[arg(long, default_value = "64M", value_name = "SIZE", value_parser = parse_size)]
    max_wills_total: usize,
    /// What to do when the queue of a subscriber is full
    #[arg(long, value_enum, default_value_t = Slow::DropNewest, value_name = "POLICY")]
    slow_consumer: Slow,
    /// End a session when nothing has been received for this long
    #[arg(long, default_value = "120s", value_name = "DURATION", value_parser = parse_idle_timeout)]
    idle_timeout: Duration,
    /// The same for one that has shown nothing yet of being where it says it is
    #[arg(long, default_value = "20s", value_name = "DURATION", value_parser = parse_idle_timeout)]
    half_open_timeout: Duration,
    /// End a session that is heard, but has not acknowledged what it was sent first for this long
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = parse_idle_timeout)]
    stall_timeout: Duration,
    /// Maximum number of replies per second to datagrams of no session
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    stateless_replies: u32,
    /// Maximum time to deliver pending messages when stopping
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    linger: Duration,
    /// When told to stop (SIGTERM), let nobody in any more, and native clients go one after the other over this time, so that
    /// other servers do not get all of them at once. A second signal ends it
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    drain: Duration,
    /// Server that native clients are told to go to when this one stops, HOST:PORT; those given first are tried first. May be
    /// given several times
    #[arg(long, value_name = "ADDR")]
    successor: Vec<Address>,
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
    nats: Box<Nats>,
    #[command(flatten)]
    key: KeyArg,
    /// Send FEC parity to original (Go) clients: 30 % more bytes, fewer retransmission delays on a lossy link
    #[arg(long)]
    compat_parity: bool,
    /// What the transport is tuned for
    #[arg(long, env = "KCPQ_PRESET", value_enum, default_value_t = Preset::Video, value_name = "PRESET")]
    preset: Preset,
    /// Congestion control towards other machines [default: rate, of the preset steady kcp]
    #[arg(long, value_enum, value_name = "CONTROL")]
    congestion: Option<Congestion>,
    /// Maximum redundancy for small messages on lossy links, in percent; 0 sends only what was lost [default: 100, of the
    /// preset steady 0]
    #[arg(long, value_name = "PERCENT")]
    redundancy: Option<u16>,
    /// File in which the server keeps its secret and where its clients are, so that those who only listen are back at once
    /// after it was killed; none keeps nothing. By default a file for each address in $STATE_DIRECTORY, or in kcpq below
    /// $XDG_STATE_HOME or ~/.local/state
    #[arg(long, env = "KCPQ_REGISTER", value_name = "FILE")]
    register: Option<PathBuf>,
    /// Log level: off, error, warn, info, debug or trace; also by where lines are from, as warn,kcpq_std_server=debug
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "LEVEL", value_parser = logging::parse_level)]
    log_level: Targets,
    /// What lines of the log look like
    #[arg(long, value_enum, default_value_t = Format::Auto, value_name = "FORMAT")]
    log_format: Format,
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

/// [`Audience`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    /// Nobody
    Nobody,
    /// Those to whom a group permits it by name, subscribe = ["$KCPQ.>"] or a part of it
    Permitted,
    /// These, and those who may subscribe to everything: without any rules everybody
    Everybody,
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

/// What the page may show; empty for nothing.
fn parse_http_subscribe(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { parse_pattern(text).map(Into::into) }
}

/// Where a page is from, as a browser says it.
fn parse_origin(text: &str) -> Result<String, String> {
    let is_origin = |(scheme, host): (&str, &str)| !scheme.is_empty() && !host.is_empty() && !host.contains('/');
    if text == "*" || text.split_once("://").is_some_and(is_origin) {
        return Ok(text.to_owned());
    }
    Err("it has to be SCHEME://HOST or SCHEME://HOST:PORT, as in https://example.org, or *".into())
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

/// A pattern of subjects.
fn parse_pattern(text: &str) -> Result<Box<str>, String> {
    let limits = subject::Limits { max_tokens: u8::MAX, ..subject::Limits::DEFAULT };
    Pattern::new(text, &limits).map(|_| text.into()).map_err(|error| error.to_string())
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

/// A size of which none would do nothing.
fn parse_some_size(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("it has to be at least 1".into()),
        size => Ok(size),
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
        let Self { log_level, log_format, .. } = &settings.serve;
        let Logging { log, flood, set_level } = Logging::start(log_level.clone(), *log_format)?;
        // The usual way would wait for standard error.
        panic::set_hook(Box::new(|info| tracing::error!("{info}")));
        let result = run::serve(Reread { arguments, settings, set_level }, &flood);
        flood.tell();
        log.finish(LAST_LINES);
        result
    }

    /// Says what would be in force, and whether the server would start with it, as far as that can be said without trying.
    fn check(&self, settings: &Settings) -> Result<(), Failure> {
        self.config(settings.access.clone())?;
        io::stdout().write_all(settings.describe().as_bytes())?;
        Ok(())
    }

    /// Where to listen; of a name's addresses the one that the original's programs take.
    fn listen_addrs(&self) -> Result<Vec<SocketAddr>, Failure> {
        let mut addrs = Vec::new();
        for address in &self.listen {
            let cannot = |why| Failure::Error(format!("cannot listen on {address}: {why}"));
            let found = async_io::block_on(address.resolve()).map_err(|error| cannot(error.to_string()))?;
            let preferred = found.iter().find(|addr| addr.is_ipv4()).or_else(|| found.first());
            let addr = *preferred.ok_or_else(|| cannot("it has no address".into()))?;
            // Port 0 is another one each time.
            if addr.port() != 0 && addrs.contains(&addr) {
                return Err(cannot("it is named twice".into()));
            }
            addrs.push(addr);
        }
        Ok(addrs)
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

    /// The servers that take this one's place, as clients are told of them.
    fn successors(&self) -> Result<String, Failure> {
        let list = self.successor.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
        if list.len() > MAX_SUCCESSORS {
            return Err(Failure::Error(format!(
                "successors take {} bytes, with commas between, and {MAX_SUCCESSORS} can be told: name fewer",
                list.len()
            )));
        }
        Ok(list)
    }

    /// # Errors
    /// Also if nobody may listen there like that.
    fn config(&self, access: Option<Access>) -> Result<Config, Failure> {
        let (defaults, preset) = (broker::Config::default(), self.preset.config());
        let addrs = self.listen_addrs()?;
        let compat_key = self.key.read()?;
        let (&listen, others) = addrs.split_first().ok_or_else(|| Failure::Error("no address to listen on".into()))?;
        let keys = Keys {
            key: self.key_file.as_deref().map(load).transpose()?,
            secret: self.secret_file.as_deref().map(load).transpose()?,
        };
        // Who has keys made means that nobody is let in without, unless it is said.
        let sealed = keys.key.is_some() || keys.secret.is_some();
        let access = access.or_else(|| (sealed && !self.open).then(Access::with_keys));
        let closed = compat_key.is_some() && !sealed || access.as_ref().is_some_and(policy::needs_keys);
        addrs.iter().try_for_each(|addr| policy::check(*addr, closed, self.open)).map_err(Failure::Error)?;
        Ok(Config {
            listen,
            listen_also: others.to_vec(),
            keys,
            register: self.register(listen),
            last_values: LastValues {
                subjects: self.keep.clone(),
                max_subjects: self.max_kept,
                max_bytes: self.max_kept_total,
                max_value: self.max_kept_size,
                original: self.kept_for_original,
            },
            values_file: self.kept_file.clone(),
            backbone: self.nats.backbone(&self.name, self.linger)?,
            shards: self.shards,
            spin: self.spin,
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
                high_water: self.high_water,
                throttle_for: self.throttle_for.into(),
                throttle_share: self.throttle_share,
                handshakes: HandshakeLimits {
                    before_retry: self.handshakes_before_retry,
                    per_second: self.handshakes_per_second,
                    unconfirmed: self.handshakes_unconfirmed,
                },
                presence: broker::Presence {
                    audience: match self.presence {
                        To::Nobody => Audience::Nobody,
                        To::Permitted => Audience::Permitted,
                        To::Everybody => Audience::Everybody,
                    },
                    addresses: self.presence_addresses,
                    per_second: self.presence_per_second,
                },
                max_will: self.max_will,
                max_wills_total: self.max_wills_total,
                slow_consumer: match self.slow_consumer {
                    Slow::DropNewest => SlowConsumer::DropNewest,
                    Slow::DropOldest => SlowConsumer::DropOldest,
                    Slow::Disconnect => SlowConsumer::Disconnect,
                },
                max_datagram: self.max_datagram.min(USUAL_DATAGRAM),
                native_datagram: self.max_datagram,
                idle_timeout: self.idle_timeout.into(),
                half_open_timeout: self.half_open_timeout.into(),
                stall_timeout: self.stall_timeout.into(),
                stateless_replies: self.stateless_replies,
                kcp: kcp::Config {
                    congestion: match self.congestion {
                        Some(Congestion::Rate) => CongestionControl::Bbr,
                        Some(Congestion::Kcp) => CongestionControl::Kcp,
                        Some(Congestion::Off) => CongestionControl::Off,
                        None => preset.congestion,
                    },
                    redundancy: self.redundancy.unwrap_or(preset.redundancy),
                    ..preset
                },
                linger: self.linger.into(),
                successors: self.successors()?.into(),
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
        Ok(config) => {
            let addrs = std::iter::once(&config.listen).chain(&config.listen_also);
            let addrs = addrs.map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
            Ok(format!("{} is in order; a server would listen on {addrs}", path.display()))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kcp(flags: &[&str]) -> kcp::Config {
        let serve = Serve::parse_from([&["kcpq serve"], flags].concat());
        serve.config(None).unwrap().broker.kcp
    }

    #[test]
    fn a_preset_is_what_is_not_said_otherwise() {
        assert_eq!(kcp(&[]), broker::Config::default().kcp);
        assert_eq!(kcp(&["--preset", "games"]), kcp::Config::GAMES);
        assert_eq!(kcp(&["--preset", "steady"]), kcp::Config::STEADY);
        let changed = kcp(&["--preset", "steady", "--congestion", "rate", "--redundancy", "7"]);
        let wanted = kcp::Config { congestion: CongestionControl::Bbr, redundancy: 7, ..kcp::Config::STEADY };
        assert_eq!(changed, wanted);
    }
}
