//! `kcpq bench`: load for a server, and what it did with it.
//!
//! The tasks run on smol's global executor, where the clients run too. It has one thread, or as many as the environment
//! variable `SMOL_THREADS` says; `--threads` sets that variable. One thread is right where the server and the bench share
//! two cores; on a larger machine a second one lets publishers and subscribers run beside each other.

mod args;
mod clock;
mod outcome;
mod payload;
mod process;
mod progress;
mod publisher;
mod report;
mod run;
mod subscriber;
mod threads;

use clap::{Parser, Subcommand};

use super::Failure;
use args::Load;
use run::Roles;

/// The commands of `kcpq bench`.
#[derive(Debug, Parser)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Publish only; the clock stops when the server has handled the last message
    Pub(Load),
    /// Subscribe only, to what `bench pub` of one other process publishes
    Sub(Load),
    /// Publish and subscribe; the clock stops at the last delivery
    Pubsub(Load),
    /// One publisher, many subscribers (100)
    Fanout(Load),
    /// Many publishers (10), one subscriber
    Fanin(Load),
}

impl Bench {
    /// Runs the measurement and prints its outcome.
    pub(super) fn run(self) -> Result<(), Failure> {
        let (name, load, roles, pubs, subs) = match &self.what {
            What::Pub(load) => ("pub", load, Roles::Publish, 1, 0),
            What::Sub(load) => ("sub", load, Roles::Subscribe, 0, 1),
            What::Pubsub(load) => ("pubsub", load, Roles::Both, 1, 1),
            What::Fanout(load) => ("fanout", load, Roles::Both, 1, 100),
            What::Fanin(load) => ("fanin", load, Roles::Both, 10, 1),
        };
        threads::apply(load.common.threads)?;
        let plan = load.plan(name, roles, pubs, subs)?;
        let outcome = smol::block_on(run::run(&plan, &load.common))?;
        report::print(&plan, &outcome, &load.common)?;
        outcome.verdict(load.allow_loss)
    }
}
