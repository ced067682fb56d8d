//! A network of several machines on this one: namespaces, and links between them on which packets can get lost without a word.
//! Needs Linux, `unshare` and `nsenter` (util-linux) and `ip` (iproute2); root is not needed.

use std::net::Ipv4Addr;
use std::process::Command;

use super::process::Process;
use super::wait::LIMIT;

/// Set where a test runs in a network of its own.
const INSIDE: &str = "KCPQ_TEST_NETWORK";

/// Runs this test again in a network of its own, of which it is the root, unless this is that. True if it is.
///
/// # Panics
///
/// If it fails there.
pub(crate) fn of_its_own(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let script = r#"ip link set lo up || exit 77; exec "$0" "$@""#;
    let may = Command::new("unshare").args(["-rn", "sh", "-c", script, "true"]).output();
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: a network of its own cannot be had here: {may:?}");
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", script]).arg(std::env::current_exe().expect("the test's program"));
    let status = command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").status().expect("unshare runs");
    assert!(status.success(), "{test} in a network of its own");
    false
}

/// Runs `ip`, here.
///
/// # Panics
///
/// If it fails.
pub(crate) fn ip(args: &[&str]) {
    succeed(Command::new("ip").args(args));
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("util-linux and iproute2 are there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A machine: this one, or another one with links to it.
#[derive(Debug)]
pub(crate) struct Machine(Option<Process>);

impl Machine {
    /// The one where the test runs.
    pub(crate) fn this() -> Self {
        Self(None)
    }

    /// Another one. It is gone when this is dropped, and what runs there ends with the test.
    pub(crate) fn new() -> Self {
        let script = "ip link set lo up && echo there && exec sleep infinity";
        let mut keeper = Process::spawn(Command::new("unshare").args(["-n", "sh", "-c", script]));
        keeper.expect_line("there", LIMIT);
        Self(Some(keeper))
    }

    /// A command that runs there.
    pub(crate) fn command(&self, program: &str) -> Command {
        match &self.0 {
            Some(keeper) => {
                let mut command = Command::new("nsenter");
                command.args(["-n", "-t", &keeper.id().to_string(), program]);
                command
            }
            None => Command::new(program),
        }
    }

    fn id(&self) -> u32 {
        self.0.as_ref().map_or_else(std::process::id, Process::id)
    }
}

/// A link between two machines.
#[derive(Debug)]
pub(crate) struct Link<'m> {
    ends: [&'m Machine; 2],
    number: u8,
}

/// An address of a link layer that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

impl<'m> Link<'m> {
    /// A new one; each has another number.
    ///
    /// # Panics
    ///
    /// If the system does not make it.
    pub(crate) fn between(first: &'m Machine, second: &'m Machine, number: u8) -> Self {
        let link = Self { ends: [first, second], number };
        let [name, other] = [0, 1].map(|end| link.name(end));
        let there = second.id().to_string();
        let pair = ["link", "add", &name, "type", "veth", "peer", "name", &other, "netns", &there];
        succeed(first.command("ip").args(pair));
        for end in [0, 1] {
            let name = link.name(end);
            succeed(link.ip(end).args(["addr", "add", &format!("{}/24", link.addr(end)), "dev", &name]));
            succeed(link.ip(end).args(["link", "set", &name, "up"]));
        }
        link
    }

    fn name(&self, end: usize) -> String {
        format!("link{}{}", self.number, ["a", "b"][end])
    }

    fn ip(&self, end: usize) -> Command {
        self.ends[end].command("ip")
    }

    /// The address on it of the first machine (0) or the second one (1).
    pub(crate) fn addr(&self, end: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 1 + u8::from(end == 1))
    }

    /// From now on nothing arrives, and nobody is told: each end sends to a machine that is not there.
    pub(crate) fn cut(&self) {
        for end in [0, 1] {
            let other = self.addr(1 - end).to_string();
            let name = self.name(end);
            succeed(self.ip(end).args([
                "neigh",
                "replace",
                &other,
                "lladdr",
                NOBODY,
                "nud",
                "permanent",
                "dev",
                &name,
            ]));
        }
    }

    /// All that is sent from now on arrives.
    pub(crate) fn mend(&self) {
        for end in [0, 1] {
            let other = self.addr(1 - end).to_string();
            succeed(self.ip(end).args(["neigh", "del", &other, "dev", &self.name(end)]));
        }
    }
}
