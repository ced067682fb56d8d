//! Builds the link, runs what is to run at its ends, tells what it carried.

use std::io::{BufRead, Error, Result};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use clap::Parser;
use serde_json::{Value, json};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::forwarder::Forwarder;
use crate::namespace::Namespace;
use crate::options::{Flags, Narrow, Outage};

/// Said with an exit code to what wants to skip itself.
const SKIPPED: u8 = 77;
/// The near and the far end. As the namespaces are this process's own, several links do not meet.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// How long the far end's command may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// The program.
pub(crate) fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(reason) = missing() {
        eprintln!("link: skipped: {reason}");
        return ExitCode::from(SKIPPED);
    }
    match run(&flags) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("link: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is not there and has to be.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("this needs root".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let program = ["ip", "unshare", "nsenter", "setpriv"].into_iter().find(|program| !there(program))?;
    Some(format!("there is no program '{program}'"))
}

fn run(flags: &Flags) -> Result<ExitCode> {
    let line = Line::new(flags)?;
    let _far = flags.far.as_ref().map(|command| line.start_far(command)).transpose()?;
    let Some((program, arguments)) = flags.program.split_first() else {
        line.serve()?;
        return Ok(ExitCode::SUCCESS);
    };
    line.reset();
    let mut running = line.ends(line.near.command(program).args(arguments)).spawn()?;
    let began = Instant::now();
    let outages = flags.outage.iter().map(|Outage { length, after }| (*after, Change::Outage(*length)));
    let narrow = flags.narrow.iter().map(|Narrow { mtu, after }| (*after, Change::Narrow(*mtu)));
    let mut changes: Vec<(Duration, Change)> = outages.chain(narrow).collect();
    changes.sort_by_key(|(after, _)| *after);
    // The program is looked after until the last change, and waited for then.
    for (after, change) in changes {
        while began.elapsed() < after && running.try_wait()?.is_none() {
            thread::sleep(LOOK.min(after.saturating_sub(began.elapsed())));
        }
        match change {
            Change::Outage(length) => line.outage(length),
            Change::Narrow(mtu) => line.narrow(mtu),
        }
    }
    let status = running.wait()?;
    let stats = line.stats();
    match &flags.json {
        Some(file) => fs::write(file, format!("{stats}\n"))?,
        None => eprintln!("{stats}"),
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What becomes of the link while a program runs.
#[derive(Clone, Copy, Debug)]
enum Change {
    Outage(Duration),
    Narrow(usize),
}

/// A link with its two ends.
struct Line {
    near: Namespace,
    far: Namespace,
    there: Forwarder,
    back: Forwarder,
}

impl Line {
    fn new(flags: &Flags) -> Result<Self> {
        let (near, far) = (Namespace::new()?, Namespace::new()?);
        let (near_device, far_device) = (Arc::new(device('n')?), Arc::new(device('f')?));
        near.adopt(&near_device, NEAR, FAR, flags.mtu)?;
        far.adopt(&far_device, FAR, NEAR, flags.mtu)?;
        if let Some(name) = &flags.congestion {
            near.set_congestion(name, FAR)?;
            far.set_congestion(name, NEAR)?;
        }
        let ((there, back), begun) = (flags.links(), Instant::now());
        // The directions lose independently.
        let seeds = (flags.seed.wrapping_mul(2), flags.seed.wrapping_mul(2).wrapping_add(1));
        let there = Forwarder::spawn(there, seeds.0, begun, Arc::clone(&near_device), Arc::clone(&far_device))?;
        let back = Forwarder::spawn(back, seeds.1, begun, far_device, near_device)?;
        Ok(Self { near, far, there, back })
    }

    /// Starts a shell command at the far end and waits until it listens.
    fn start_far(&self, command: &str) -> Result<Guard> {
        let mut command = self.ends(self.far.command_with_children("sh").args(["-c", command]));
        let mut far = Guard(command.stdin(Stdio::null()).spawn()?);
        let began = Instant::now();
        while !self.far.listens() {
            if let Some(status) = far.0.try_wait()? {
                return Err(Error::other(format!("the far end's command ended: {status}")));
            }
            if began.elapsed() > PATIENCE {
                return Err(Error::other("the far end's command does not listen"));
            }
            thread::sleep(LOOK);
        }
        Ok(far)
    }

    /// Tells a command where the ends are.
    fn ends(&self, command: &mut Command) -> Command {
        let mut told = Command::new(command.get_program());
        told.args(command.get_args()).env("LINK_NEAR", NEAR.to_string()).env("LINK_FAR", FAR.to_string());
        told
    }

    /// Does what standard input says until that ends.
    fn serve(&self) -> Result<()> {
        println!(
            "{}",
            json!({
                "near": { "pid": self.near.pid(), "addr": NEAR },
                "far": { "pid": self.far.pid(), "addr": FAR },
                "enter": format!("nsenter --net=/proc/{}/ns/net", self.near.pid()),
            })
        );
        for line in io::stdin().lock().lines() {
            println!("{}", self.obey(&line?));
        }
        Ok(())
    }

    fn obey(&self, line: &str) -> Value {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["stats"] => return self.stats(),
            ["reset"] => self.reset(),
            ["outage", length] => match humantime::parse_duration(length) {
                Ok(length) => self.outage(length),
                Err(error) => return json!({ "error": error.to_string() }),
            },
            ["narrow", mtu] => match mtu.parse() {
                Ok(mtu) => self.narrow(mtu),
                Err(error) => return json!({ "error": format!("'{mtu}' is no size: {error}") }),
            },
            _ => return json!({ "error": "the commands are: stats, reset, outage LENGTH, narrow BYTES" }),
        }
        json!({})
    }

    fn outage(&self, length: Duration) {
        self.there.outage(length.into());
        self.back.outage(length.into());
    }

    fn narrow(&self, mtu: usize) {
        self.there.narrow(mtu);
        self.back.narrow(mtu);
    }

    fn reset(&self) {
        self.there.reset();
        self.back.reset();
    }

    fn stats(&self) -> Value {
        json!({ "near_to_far": self.there.stats(), "far_to_near": self.back.stats() })
    }
}

/// A process that ends with this value.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A TUN device that is still down, and without checksum or segmentation offload: what is read are the packets as a
/// wire would see them.
fn device(end: char) -> Result<SyncDevice> {
    let name = format!("link{end}{}", process::id());
    let device = DeviceBuilder::new().name(name).layer(Layer::L3).enable(false).build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}
