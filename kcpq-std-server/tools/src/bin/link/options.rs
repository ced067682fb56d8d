//! The flags.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use kcpq_core::sim;

/// Run programs at the two ends of an emulated bad link
#[derive(Debug, Parser)]
#[command(name = "link", max_term_width = 120)]
pub(crate) struct Flags {
    /// Propagation delay in each direction
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// Maximum extra delay per packet, uniformly distributed; more than the packets' spacing reorders them
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Packet loss in each direction, in percent
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = parse_percent)]
    loss: f64,
    /// Mean length of a loss burst (Gilbert-Elliott); 1: losses are independent
    #[arg(long, default_value_t = 1.0, value_name = "PACKETS")]
    burst: f64,
    /// Duplicated packets, in percent
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = parse_percent)]
    duplicate: f64,
    /// Bandwidth in each direction in bits per second, such as 100mbit [default: unlimited]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<u64>,
    /// Queue in front of the bottleneck in bytes, such as 64k; tail drop when it is full
    #[arg(long, default_value = "256k", value_name = "BYTES", value_parser = parse_bytes)]
    queue: usize,
    /// Delay of the direction from far to near, if it differs
    #[arg(long, value_name = "DELAY", value_parser = humantime::parse_duration)]
    back_delay: Option<Duration>,
    /// Loss of that direction, if it differs
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    back_loss: Option<f64>,
    /// Bandwidth of that direction, if it differs
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    back_rate: Option<u64>,
    /// Lose everything for LENGTH, beginning WHEN after the start, such as 2s@5s; may be repeated
    #[arg(long, value_name = "LENGTH@WHEN", value_parser = parse_outage)]
    pub(crate) outage: Vec<Outage>,
    /// Silently drop IP packets longer than BYTES, beginning WHEN after the start, such as 1300@3s; may be repeated
    #[arg(long, value_name = "BYTES@WHEN", value_parser = parse_narrow)]
    pub(crate) narrow: Vec<Narrow>,
    /// Seed of the random choices: the same seed loses the same packets, counted in each direction
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Interface MTU: the maximum IP packet
    #[arg(long, default_value_t = 1500, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(576..))]
    pub(crate) mtu: u16,
    /// Silently drop longer IP packets, as a tunnel on the path may (an MTU black hole)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(576..))]
    path_mtu: Option<u16>,
    /// TCP congestion control at both ends, such as bbr or cubic [default: the kernel's]
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Shell command to start first, at the far end. The program waits until it listens, and stops it when done
    #[arg(long, value_name = "COMMAND")]
    pub(crate) far: Option<String>,
    /// Write the statistics of the link to this file, as JSON, instead of to standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// What to run at the near end
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// When a link is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) length: Duration,
    pub(crate) after: Duration,
}

/// When a link carries no more than so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Narrow {
    pub(crate) mtu: usize,
    pub(crate) after: Duration,
}

impl Flags {
    /// What happens from near to far, and back.
    pub(crate) fn links(&self) -> (sim::Config, sim::Config) {
        let there = sim::Config {
            delay: self.delay.into(),
            jitter: self.jitter.into(),
            loss: self.loss,
            burst: self.burst,
            duplicate: self.duplicate,
            corrupt: 0.0,
            bandwidth: self.rate,
            queue: self.queue,
            mtu: self.path_mtu.unwrap_or(self.mtu).into(),
            cut: usize::MAX,
        };
        let back = sim::Config {
            delay: self.back_delay.unwrap_or(self.delay).into(),
            loss: self.back_loss.unwrap_or(self.loss),
            bandwidth: self.back_rate.or(self.rate),
            ..there
        };
        (there, back)
    }
}

/// Percent as a part of 1.
fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("'{text}' is not a number from 0 to 100")),
    }
}

/// Bits per second as bytes per second.
fn parse_rate(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (number, unit) = split(lower.trim_end_matches("/s"));
    let scale = match unit {
        "" | "bit" => 1.0,
        "k" | "kbit" => 1e3,
        "m" | "mbit" => 1e6,
        "g" | "gbit" => 1e9,
        _ => return Err(format!("'{text}' is no rate: bit, kbit, mbit and gbit are known")),
    };
    match number.parse::<f64>() {
        Ok(number) if number * scale >= 8.0 => Ok((number * scale / 8.0) as u64),
        _ => Err(format!("'{text}' is no rate above 0")),
    }
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (number, unit) = split(&lower);
    let scale = match unit {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        _ => return Err(format!("'{text}' is no size: k and m are known")),
    };
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(scale));
    size.ok_or_else(|| format!("'{text}' is no size"))
}

fn parse_outage(text: &str) -> Result<Outage, String> {
    let (length, after) = text.split_once('@').ok_or("LENGTH@WHEN is asked for, such as 2s@5s")?;
    let duration = |text| humantime::parse_duration(text).map_err(|error| error.to_string());
    Ok(Outage { length: duration(length)?, after: duration(after)? })
}

fn parse_narrow(text: &str) -> Result<Narrow, String> {
    let (mtu, after) = text.split_once('@').ok_or("BYTES@WHEN is asked for, such as 1300@3s")?;
    let after = humantime::parse_duration(after).map_err(|error| error.to_string())?;
    Ok(Narrow { mtu: parse_bytes(mtu)?, after })
}

/// A number and its unit.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_in_bits_and_kept_in_bytes() {
        assert_eq!(parse_rate("100mbit"), Ok(12_500_000));
        assert_eq!(parse_rate("1.5Mbit/s"), Ok(187_500));
        assert_eq!(parse_rate("800"), Ok(100));
        assert!(parse_rate("0").is_err() && parse_rate("fast").is_err() && parse_rate("3 apples").is_err());
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_bytes("64k"), Ok(65_536));
        assert_eq!(parse_bytes("1M"), Ok(1_048_576));
        assert!(parse_bytes("1.5k").is_err() && parse_bytes("").is_err());
    }

    #[test]
    fn losses_are_told_in_percent() {
        assert_eq!(parse_percent("5"), Ok(0.05));
        assert_eq!(parse_percent("0.5%"), Ok(0.005));
        assert!(parse_percent("101").is_err() && parse_percent("-1").is_err() && parse_percent("NaN").is_err());
    }

    #[test]
    fn an_outage_has_a_length_and_a_beginning() {
        let expected = Outage { length: Duration::from_secs(2), after: Duration::from_millis(500) };
        assert_eq!(parse_outage("2s@500ms"), Ok(expected));
        assert!(parse_outage("2s").is_err() && parse_outage("@").is_err());
        assert_eq!(parse_narrow("1300@3s"), Ok(Narrow { mtu: 1_300, after: Duration::from_secs(3) }));
        assert!(parse_narrow("1300").is_err() && parse_narrow("@3s").is_err());
    }

    #[test]
    fn the_way_back_differs_only_where_it_is_told_to() {
        let flags =
            Flags::parse_from(["link", "--delay", "15ms", "--loss", "5", "--rate", "8mbit", "--back-loss", "1"]);
        let (there, back) = flags.links();
        assert_eq!((there.loss, there.bandwidth), (0.05, Some(1_000_000)));
        assert_eq!(back, sim::Config { loss: 0.01, ..there });
    }
}
