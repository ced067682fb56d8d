//! A network namespace that lives as long as this process.
//!
//! It has no name and no file: a child holds it open and waits for the end of its standard input, which the kernel
//! brings about however this process ends. What runs inside is killed by the kernel when this process dies.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Error, Result};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use tun_rs::SyncDevice;

/// A network namespace with one TUN device.
#[derive(Debug)]
pub(crate) struct Namespace {
    holder: Child,
}

/// Packets that wait for this process: more than any sender has under way, so that only the link drops some.
const DEVICE_QUEUE: u32 = 20_000;

impl Namespace {
    /// A namespace with only a loopback device. Without IPv6, whose router solicitations would be lost in place of the
    /// packets that are looked at.
    pub(crate) fn new() -> Result<Self> {
        let script = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up && echo ready && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn()?;
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let namespace = Self { holder };
        if line != "ready\n" {
            return Err(Error::other("a network namespace cannot be made: see above"));
        }
        Ok(namespace)
    }

    /// The process by which `nsenter --net -t PID` finds the way in.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Moves `device` in, as the end `own` of a line to `peer`.
    pub(crate) fn adopt(&self, device: &SyncDevice, own: Ipv4Addr, peer: Ipv4Addr, mtu: u16) -> Result<()> {
        let name = device.name()?;
        succeed(Command::new("ip").args(["link", "set", &name, "netns", &self.pid().to_string()]))?;
        succeed(self.command("ip").args(["addr", "add", &own.to_string(), "peer", &peer.to_string(), "dev", &name]))?;
        let (mtu, queue) = (mtu.to_string(), DEVICE_QUEUE.to_string());
        succeed(self.command("ip").args(["link", "set", &name, "up", "mtu", &mtu, "txqueuelen", &queue]))
    }

    /// Chooses TCP's congestion control towards `peer`. By the route: a namespace's setting takes only what the whole
    /// machine allows to everybody.
    pub(crate) fn set_congestion(&self, name: &str, peer: Ipv4Addr) -> Result<()> {
        let route = self.command("ip").args(["route", "show", &peer.to_string()]).output()?.stdout;
        let route = String::from_utf8_lossy(&route).into_owned();
        succeed(self.command("ip").args(["route", "replace"]).args(route.split_whitespace()).args(["congctl", name]))
    }

    /// A command that runs inside, and dies with this process.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let net = format!("--net=/proc/{}/ns/net", self.pid());
        command.arg(net).args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    /// The same with all the processes that it starts, whatever becomes of their parents: with the first process of a
    /// namespace of processes the kernel ends the others.
    pub(crate) fn command_with_children(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command("unshare");
        command.args(["--pid", "--fork", "--kill-child=KILL", "--"]).arg(program);
        command
    }

    /// Whether a program in there waits for connections or datagrams.
    pub(crate) fn listens(&self) -> bool {
        // The state of a TCP socket that listens, and of a UDP socket without a peer.
        [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")].into_iter().any(|(protocol, state)| {
            let table = fs::read_to_string(format!("/proc/{}/net/{protocol}", self.pid())).unwrap_or_default();
            table.lines().skip(1).any(|line| line.split_whitespace().nth(3) == Some(state))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its end is the namespace's; it has nothing to finish.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end())))
}
