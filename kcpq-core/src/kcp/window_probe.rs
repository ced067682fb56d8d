//! Zero-window probes (WASK): asking about a closed window (PROTOCOL.md 2.7).

use super::env::Env;
use super::packet::Packet;
use super::segment::Command;
use super::timers::Timer;
use crate::time::Duration;

/// The persist timer's back-off: the present interval, while the window is closed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WindowProbe(Option<Duration>);

impl WindowProbe {
    /// Writes a zero-window probe if one is due. `waiting`: data wait for a zero window to open.
    pub(super) fn write(&mut self, env: &mut Env, packet: &mut Packet<'_>, waiting: bool) {
        if packet.room().is_none() {
            return; // so that the timer does not go on: it goes in the next datagram
        }
        if !waiting {
            self.0 = None;
            env.timers.stop(Timer::WindowProbe);
            return;
        }
        let interval = match self.0 {
            None => env.config.window_probe_initial,
            Some(_) if !env.timers.is_due(Timer::WindowProbe, env.now) => return,
            Some(interval) => {
                packet.push_bare(Command::WindowProbe);
                env.stats.window_probes += 1;
                (interval + interval.div(2)).min(env.config.window_probe_limit)
            }
        };
        self.0 = Some(interval);
        env.timers.start(Timer::WindowProbe, env.now + interval);
    }
}
