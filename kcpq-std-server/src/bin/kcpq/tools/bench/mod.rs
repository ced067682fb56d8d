//! `kcpq bench`: load for a server, and what it did with it.
//!
//! The tasks run on smol's global executor, where the clients run too, with two threads, or one if there is a rate, unless
//! `--threads` or the environment variable `SMOL_THREADS` says another number.

mod args;
mod clock;
mod connections;
mod flow;
mod outcome;
mod payload;
mod plot;
mod process;

mod publisher;
mod report;
mod run;
mod soak;
mod stop;
mod subscriber;
mod threads;

use clap::{Parser, Subcommand};

use crate::Failure;
use args::Load;
use connections::Connections;
use run::Roles;
use soak::Soak;
use stop::Stop;

/// The commands of `kcpq bench`.
#[derive(Debug, Parser)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Publish only; timed until the server has handled the last message
    Pub(Load),
    /// Subscribe only, to what `bench pub` in other processes publishes; latency is valid on the same machine only
    Sub(Load),
    /// Publish and subscribe; timed until the last delivery
    Pubsub(Load),
    /// One publisher, many subscribers [default: 100]
    Fanout(Load),
    /// Many publishers, one subscriber [default: 10 publishers]
    Fanin(Load),
    /// Round trips: request and reply over two connections; one at a time without --rate
    Latency(Load),
    /// Open many sessions and keep them idle, with heartbeats only
    Connections(Connections),
    /// Have clients come, do everything and go, for hours; tell what they left behind
    Soak(Soak),
}

impl Bench {
    /// Runs the measurement and prints its outcome.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (name, load, roles, pubs, subs) = match &self.what {
            What::Pub(load) => ("pub", load, Roles::Publish, 1, 0),
            What::Sub(load) => ("sub", load, Roles::Subscribe, 0, 1),
            What::Pubsub(load) => ("pubsub", load, Roles::Both, 1, 1),
            What::Fanout(load) => ("fanout", load, Roles::Both, 1, 100),
            What::Fanin(load) => ("fanin", load, Roles::Both, 10, 1),
            What::Latency(load) => ("latency", load, Roles::Ask, 1, 1),
            What::Connections(connections) => {
                threads::apply(connections.common.threads, false)?;
                return connections.run();
            }
            What::Soak(soak) => {
                threads::apply(soak.common.threads, false)?;
                return soak.run();
            }
        };
        let plan = load.plan(name, roles, pubs, subs)?;
        threads::apply(load.common.threads, plan.phase.rate.is_some() || roles == Roles::Ask)?;
        let stop = Stop::listen()?;
        let outcome = smol::block_on(run::run(&plan, &load.common, &stop))?;
        report::print(&plan, &outcome, &load.common)?;
        stop.verdict()?;
        outcome.verdict(load.allow_loss)
    }
}
