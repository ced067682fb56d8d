//! What lies around all datagrams of an endpoint: nothing, or the original's cipher.

use core::fmt;

#[cfg(feature = "aes")]
use crate::cipher::{self, CompatAes256Cfb, Key, Nonces};

/// The outermost layer of an endpoint's datagrams.
#[derive(Default)]
pub struct Protection {
    #[cfg(feature = "aes")]
    aes: Option<(CompatAes256Cfb, Nonces)>,
}

impl Protection {
    /// Everything in the clear.
    pub const NONE: Self = Self {
        #[cfg(feature = "aes")]
        aes: None,
    };

    /// The cipher of KCPQ v2.1, to speak with peers that have it. **It keeps nobody from altering or repeating
    /// datagrams**; see [`cipher`](crate::cipher). `entropy` is random: the nonces come from it.
    #[cfg(feature = "aes")]
    pub fn compat_aes256(key: &Key, entropy: [u8; 32]) -> Self {
        Self { aes: Some((CompatAes256Cfb::new(key), Nonces::new(entropy))) }
    }

    /// Bytes in front of what is protected.
    pub fn headroom(&self) -> usize {
        #[cfg(feature = "aes")]
        if self.aes.is_some() {
            return cipher::LEN;
        }
        0
    }

    /// What a datagram protects; `None` if it is not one that this protection has made: another key, none, or damaged.
    pub fn open<'d>(&self, datagram: &'d mut [u8]) -> Option<&'d mut [u8]> {
        #[cfg(feature = "aes")]
        if let Some((aes, _)) = &self.aes {
            return aes.open(datagram);
        }
        Some(datagram)
    }

    /// Protects what lies behind [`headroom`](Self::headroom) bytes.
    pub fn seal(&mut self, datagram: &mut [u8]) {
        #[cfg(feature = "aes")]
        if let Some((aes, nonces)) = &mut self.aes {
            // There is headroom.
            let _ = aes.seal(nonces.next(), datagram);
        }
        #[cfg(not(feature = "aes"))]
        let _ = datagram;
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.headroom() == 0 { "Protection(none)" } else { "Protection(compat AES-256)" })
    }
}
