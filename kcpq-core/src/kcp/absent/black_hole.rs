//! Without path MTU discovery nobody could be asked.

#[derive(Clone, Copy, Debug)]
pub(super) struct BlackHole;

impl BlackHole {
    pub(super) const fn new() -> Self {
        Self
    }

    pub(super) fn on_lost(&mut self, _: u16) {}

    pub(super) fn on_arrival(&mut self, _: u16, _: impl FnOnce(u16) -> bool) {}

    pub(super) fn is_suspected(self) -> bool {
        false
    }
}
