//! What lies around all datagrams of an endpoint: nothing, or the original's cipher.

use core::fmt;

use super::aes::Aes;

/// The outermost layer of an endpoint's datagrams.
#[derive(Default)]
pub struct Protection {
    aes: Option<Aes>,
}

impl Protection {
    /// Everything in the clear.
    pub const NONE: Self = Self { aes: None };

    /// The cipher of KCPQ v2.1, to speak with peers that have it. **It keeps nobody from altering or repeating
    /// datagrams**; see [`cipher`](crate::cipher). `entropy` is random: the nonces come from it.
    #[cfg(feature = "aes")]
    pub fn compat_aes256(key: &crate::cipher::Key, entropy: [u8; 32]) -> Self {
        Self { aes: Some(Aes::new(key, entropy)) }
    }

    /// Bytes in front of what is protected.
    pub fn headroom(&self) -> usize {
        self.aes.as_ref().map_or(0, Aes::headroom)
    }

    /// What a datagram protects; `None` if it is not one that this protection has made: another key, none, or damaged.
    pub fn open<'d>(&self, datagram: &'d mut [u8]) -> Option<&'d mut [u8]> {
        match &self.aes {
            Some(aes) => aes.open(datagram),
            None => Some(datagram),
        }
    }

    /// Protects what lies behind [`headroom`](Self::headroom) bytes.
    pub fn seal(&mut self, datagram: &mut [u8]) {
        if let Some(aes) = &mut self.aes {
            aes.seal(datagram);
        }
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.headroom() == 0 { "Protection(none)" } else { "Protection(compat AES-256)" })
    }
}
