//! Without the original's cipher there is none.

pub(super) enum Aes {}

impl Aes {
    pub(super) fn headroom(&self) -> usize {
        match *self {}
    }

    pub(super) fn open<'d>(&self, _: &'d mut [u8]) -> Option<&'d mut [u8]> {
        match *self {}
    }

    pub(super) fn seal(&mut self, _: &mut [u8]) {
        match *self {}
    }
}
