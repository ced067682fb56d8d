//! Without an allocator every message waits in the window until the user asks for it.

#[derive(Debug, Default)]
pub(super) struct Recent(());

impl Recent {
    pub(super) fn forget(&mut self) {}

    pub(super) fn is_held(&self) -> bool {
        false
    }
}
