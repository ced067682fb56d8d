//! A program without the feature `nats` has no bridge, and says so.

use super::Bridge;
use crate::Failure;
use crate::serve::flood::Flood;

impl Bridge {
    /// # Errors
    /// There is none.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        Err(Failure::Error("this program was built without NATS (the feature nats)".into()))
    }

    /// # Errors
    /// There is none.
    pub(super) fn carry(self, _: &Flood, _: impl FnMut()) -> Result<(), Failure> {
        self.prepare()
    }
}
