//! Without KCP's message mode there are no messages.

use core::marker::PhantomData;

use super::SendError;
use crate::store::Store;

pub(super) struct Messages<S: Store>(PhantomData<S>);

impl<S: Store> Messages<S> {
    pub(super) fn new(_: S::Queue<u32>) -> Self {
        Self(PhantomData)
    }

    pub(super) fn clear(&mut self) {}

    pub(super) fn send(&mut self, _: &mut S::Tx, _: u32, _: usize, _: &[u8]) -> Result<(), SendError> {
        Err(SendError::Full)
    }

    pub(super) fn next(&self, _: u32, _: usize) -> Option<(usize, u8)> {
        None
    }

    pub(super) fn on_cut(&mut self, _: u8) {}
}
