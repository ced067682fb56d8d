//! Without an allocator every message waits in the window until the user asks for it.

#[derive(Debug, Default)]
pub(super) struct Recent(());

impl Recent {
    pub(super) fn forget(&mut self) {}
}
