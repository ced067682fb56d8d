//! The original's cipher with its key and nonces.

use crate::cipher::{self, CompatAes256Cfb, Key, Nonces};

pub(super) struct Aes {
    cipher: CompatAes256Cfb,
    nonces: Nonces,
}

impl Aes {
    pub(super) fn new(key: &Key, entropy: [u8; 32]) -> Self {
        Self { cipher: CompatAes256Cfb::new(key), nonces: Nonces::new(entropy) }
    }

    pub(super) fn headroom(&self) -> usize {
        cipher::LEN
    }

    pub(super) fn open<'d>(&self, datagram: &'d mut [u8]) -> Option<&'d mut [u8]> {
        self.cipher.open(datagram)
    }

    pub(super) fn seal(&mut self, datagram: &mut [u8]) {
        // There is headroom.
        let _ = self.cipher.seal(self.nonces.next(), datagram);
    }
}
