//! A program without the feature `nats` has none, and says so.

use std::time::Duration;

use kcpq_std_server::Backbone;

use super::{Crossing, NatsServers};
use crate::Failure;

impl NatsServers {
    /// None.
    ///
    /// # Errors
    /// There is to be one.
    pub(crate) fn backbone(&self, _: &str, crossing: Crossing, _: Duration) -> Result<Option<Backbone>, Failure> {
        let Crossing { leaf, .. } = crossing;
        if self.is_wanted() || !leaf.is_empty() {
            return Err(Failure::Error("this program was built without NATS (the feature nats)".into()));
        }
        Ok(None)
    }
}
