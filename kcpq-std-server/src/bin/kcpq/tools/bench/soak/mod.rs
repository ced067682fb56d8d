//! `kcpq bench soak`: clients that come, do everything, and go, for hours; then all is to be as it was before.
//!
//! One publisher and one subscriber are there all the time and show what others do to them ([`Steady`]); around
//! them [guests](guest) come and go. What a server and its clients use is looked at twice, both times while only the steady pair
//! is there: after the first guests have gone, since memory that was used once a process may keep, and at the end.

mod guest;
mod letter;
mod look;
mod report;
mod steady;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use kcpq_core::rng::Rng;
use smol::Timer;

use self::guest::{Guests, Visits};
use self::look::Look;
use self::steady::{Steady, Stretch};
use super::args::Common;
use super::clock::Clock;
use super::report::write;
use super::stop::Stop;
use crate::Failure;
use crate::progress::{INTERVAL, Progress};

/// The flags.
#[derive(Debug, Args)]
pub(super) struct Soak {
    #[command(flatten)]
    pub(super) common: Common,
    /// How long guests come and go
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Number of guests at a time
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    guests: u16,
    /// Messages per second of the publisher that is there all the time
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// What guests do is drawn by lot from this; drawn itself if absent, and told
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// First token of all subjects
    #[arg(long, default_value = "soak")]
    subject: String,
}

/// The first guests, and the time in which only the steady pair is there: shares of the duration, and bounds.
const FIRST: u32 = 10;
const FIRST_AT_MOST: Duration = Duration::from_secs(60);
const CALM: u32 = 20;
const CALM_BOUNDS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];
/// How long it may take until what the last guest has used is given back: longer than a server keeps a session whose client
/// has vanished.
const PATIENCE: Duration = Duration::from_secs(150);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What was seen.
struct Outcome {
    seed: u64,
    seconds: f64,
    visits: Visits,
    /// Before, meanwhile, and afterwards.
    steady: [Stretch; 3],
    own: Option<[Look; 2]>,
    server: Option<[Look; 2]>,
}

impl Soak {
    /// Lets guests come and go, and prints what came of it.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let stop = Stop::listen()?;
        let outcome = smol::block_on(self.measure(&stop))?;
        write(&if self.common.json { report::to_json(self, &outcome) } else { report::to_text(self, &outcome) })?;
        stop.verdict()?;
        outcome.verdict()
    }

    async fn measure(&self, stop: &Stop) -> Result<Outcome, Failure> {
        let seed = self.seed.unwrap_or_else(|| Rng::new().u64(..));
        let clock = Clock::start();
        let guests = Arc::new(Guests::new(self, seed, stop.clone())?);
        let mut steady = Steady::set_up(self, clock, stop.clone()).await?;
        let first = (self.duration / FIRST).min(FIRST_AT_MOST);
        let calm = (self.duration / CALM).clamp(CALM_BOUNDS[0], CALM_BOUNDS[1]);

        self.invite(&guests, 0, first, &mut steady, "first guests").await?;
        let used = self.settled(None).await;
        let before = steady.publish(calm).await?;
        let begun = clock.now();
        let meanwhile = self.invite(&guests, u64::from(self.guests), self.duration, &mut steady, "guests").await?;
        let seconds = (clock.now() - begun) as f64 / 1e9;
        let visits = guests.visits();
        let left = self.settled(Some(&used)).await;
        let after = steady.publish(calm).await?;
        steady.close().await;

        let both = |index: usize| Some([used[index]?, left[index]?]);
        Ok(Outcome { seed, seconds, visits, steady: [before, meanwhile, after], own: both(0), server: both(1) })
    }

    /// Has guests for so long, until the last one has gone.
    async fn invite(
        &self,
        guests: &Arc<Guests>,
        first: u64,
        span: Duration,
        steady: &mut Steady,
        what: &'static str,
    ) -> Result<Stretch, Failure> {
        let progress = Progress::new(what, None, !self.common.no_progress);
        let until = Instant::now() + span;
        let places: Vec<_> = (0..u64::from(self.guests))
            .map(|place| smol::spawn(Arc::clone(guests).keep_place(first + place, until)))
            .collect();
        let counter = smol::spawn({
            let guests = Arc::clone(guests);
            async move {
                loop {
                    progress.at(guests.visits().came);
                    Timer::after(INTERVAL).await;
                }
            }
        });
        let stretch = steady.publish(span).await;
        for place in places {
            place.await;
        }
        counter.cancel().await;
        stretch
    }

    /// What this process and the server use once guests have gone: as soon as it is no more than it was, or in the end.
    async fn settled(&self, before: Option<&[Option<Look>; 2]>) -> [Option<Look>; 2] {
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            let found = [Look::now(None), self.common.server_pid.and_then(|pid| Look::now(Some(pid)))];
            let descriptors = found.map(|look| look.map(|look| look.descriptors));
            let is_well = match before {
                Some(before) => before.iter().zip(&found).all(|pair| match pair {
                    (Some(before), Some(now)) => now.is_as(before),
                    _ => true,
                }),
                // Nothing to compare with: nothing is given back any more.
                None => last == Some(descriptors),
            };
            if is_well || Instant::now() >= until {
                return found;
            }
            last = Some(descriptors);
            Timer::after(LOOK_AGAIN).await;
        }
    }
}

impl Outcome {
    /// What is not as it should be.
    fn faults(&self) -> Vec<String> {
        let mut faults = self.visits.faults();
        for (when, stretch) in ["before", "meanwhile", "afterwards"].into_iter().zip(&self.steady) {
            faults.extend(stretch.fault(when));
        }
        for (who, looks) in [("this process", &self.own), ("the server", &self.server)] {
            if let Some([before, after]) = looks {
                faults.extend(after.fault(before, who));
            }
        }
        faults
    }

    fn verdict(&self) -> Result<(), Failure> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(Failure::Error(faults.join("; "))) }
    }
}
