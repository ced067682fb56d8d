//! The last will of a command, by the names that mosquitto's programs have for it.

use clap::Args;
use kcpq_smol::{Builder, Will};

/// The flags.
#[derive(Debug, Args)]
pub(crate) struct WillArg {
    /// Last will: the server publishes a message to this subject if it loses this program without that it has ended in order
    #[arg(long, visible_alias = "will-topic", value_name = "SUBJECT")]
    will: Option<String>,
    /// What the last will says
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT", requires = "will")]
    will_payload: String,
    /// Keep the last will as the last value of its subject, for those who subscribe later
    #[arg(long, requires = "will")]
    will_retain: bool,
}

impl WillArg {
    /// The options with it.
    pub(crate) fn apply(&self, builder: Builder) -> Builder {
        let Some(subject) = &self.will else { return builder };
        let will = Will::new(subject, self.will_payload.as_str());
        builder.will(if self.will_retain { will.retain() } else { will })
    }
}
