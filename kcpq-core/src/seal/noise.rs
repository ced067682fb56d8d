//! The Noise handshakes of this protocol, in the words of the [specification](https://noiseprotocol.org/noise.html),
//! revision 34: [`Symmetric`] is its section 5.2, the four functions below are the patterns of sections 7.5 and 9.4.
//!
//! Written out for three patterns of two messages, not interpreted. The libraries that do the latter were measured on a
//! Cortex-M3 (`opt-level = "s"`, fat LTO), with the same primitives, which alone take 10.5 KB: `noise-protocol` 0.2.1
//! has 17.6 KB, `clatter` 2.3.0 has 20.4 KB, `snow` needs an allocator; and in all of them a call at the wrong time
//! panics. A client with all that is in `seal`, and nothing in it that can panic but the primitives, has 14.6 KB. This
//! file is tested with the published vectors and against `snow`.
//!
//! In all three patterns every encryption follows a `MixKey` at once, so the nonce is 0 each time, and nothing is ever sent
//! before there is a key.

use super::aead::{Aead, RustCrypto, TAG};
use super::hash::{hash, hkdf};
use super::key::agree;
use super::secret::Secret;
use super::token;
use super::wire::concat;
use super::{Cipher, Pattern, PrivateKey, PublicKey, Rejected, SharedSecret, Suite};

/// Bytes of a public key.
const KEY: usize = 32;

/// Bytes of one that is encrypted.
const SEALED_KEY: usize = KEY + TAG;

/// Bytes of the first message besides HELLO.
pub(super) const fn first_overhead(pattern: Pattern) -> usize {
    match pattern {
        Pattern::Ik => KEY + SEALED_KEY + TAG,
        Pattern::Nk | Pattern::NnPsk0 => KEY + TAG,
        Pattern::NkToken => KEY + token::LEN + TAG,
    }
}

/// Bytes of the second message besides its payload.
pub(super) const SECOND_OVERHEAD: usize = KEY + TAG;

/// What the client knows beforehand.
pub(super) enum InitiatorKeys<'a> {
    Ik { key: &'a PrivateKey, server: &'a PublicKey },
    Nk { server: &'a PublicKey },
    NnPsk0 { secret: &'a SharedSecret },
}

impl InitiatorKeys<'_> {
    pub(super) const fn pattern(&self) -> Pattern {
        match self {
            Self::Ik { .. } => Pattern::Ik,
            Self::Nk { .. } => Pattern::Nk,
            Self::NnPsk0 { .. } => Pattern::NnPsk0,
        }
    }
}

/// What the server knows beforehand.
pub(super) enum ResponderKeys<'a> {
    Ik { key: &'a PrivateKey },
    Nk { key: &'a PrivateKey },
    NnPsk0 { secret: &'a SharedSecret },
}

impl ResponderKeys<'_> {
    const fn pattern(&self) -> Pattern {
        match self {
            Self::Ik { .. } => Pattern::Ik,
            Self::Nk { .. } => Pattern::Nk,
            Self::NnPsk0 { .. } => Pattern::NnPsk0,
        }
    }
}

/// The client, between both messages.
pub(super) struct Initiator {
    symmetric: Symmetric,
    ephemeral: Secret,
    /// The client's own, if the pattern has it.
    key: Option<Secret>,
    has_secret: bool,
}

/// The server, between both messages.
pub(super) struct Responder {
    symmetric: Symmetric,
    ephemeral: PublicKey,
    /// The client's, if the pattern has it.
    pub(super) client: Option<PublicKey>,
    has_secret: bool,
}

/// The keys that both sides have then.
pub(super) struct Split {
    pub(super) of_initiator: Secret,
    pub(super) of_responder: Secret,
}

impl Initiator {
    /// Writes the first message: `out` is its place, with the payload at the end of which [`TAG`] bytes are free.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn write(
        keys: &InitiatorKeys<'_>,
        cipher: Cipher,
        prologue: &[u8],
        entropy: &[u8; 32],
        out: &mut [u8],
    ) -> Result<Self, Rejected> {
        let mut symmetric = Symmetric::new(Suite { pattern: keys.pattern(), cipher }, prologue);
        let (server, key, secret) = match *keys {
            InitiatorKeys::Ik { key, server } => (Some(server), Some(key), None),
            InitiatorKeys::Nk { server } => (Some(server), None, None),
            InitiatorKeys::NnPsk0 { secret } => (None, None, Some(secret)),
        };
        let ephemeral = PrivateKey::from_bytes(entropy);
        let (place, mut rest) = out.split_first_chunk_mut::<KEY>().ok_or(Rejected::Malformed)?;
        *place = *ephemeral.public().as_bytes();

        if let Some(server) = server {
            symmetric.mix_hash(server.as_bytes()); // <- s
        }
        if let Some(secret) = secret {
            symmetric.mix_key_and_hash(secret.secret()); // -> psk
        }
        symmetric.mix_hash(place); // -> e
        if secret.is_some() {
            symmetric.mix_key(place);
        }
        if let Some(server) = server {
            symmetric.mix_agreement(ephemeral.secret(), server)?; // es
            if let Some(key) = key {
                let (place, payload) = rest.split_first_chunk_mut::<SEALED_KEY>().ok_or(Rejected::Malformed)?;
                *place = concat(&[key.public().as_bytes()]);
                symmetric.encrypt_and_hash(place)?; // s
                symmetric.mix_agreement(key.secret(), server)?; // ss
                rest = payload;
            }
        }
        symmetric.encrypt_and_hash(rest)?;
        let key = key.map(|key| key.secret().clone());
        Ok(Self { symmetric, ephemeral: Secret::new(*entropy), key, has_secret: secret.is_some() })
    }

    /// Reads the second message in place; gives its payload and the keys. Refused, it has changed nothing here.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn read<'m>(&self, message: &'m mut [u8]) -> Result<(Split, &'m mut [u8]), Rejected> {
        let mut symmetric = self.symmetric.clone();
        let (ephemeral, rest) = message.split_first_chunk_mut::<KEY>().ok_or(Rejected::Malformed)?;
        let ephemeral = PublicKey(*ephemeral);
        symmetric.mix_hash(ephemeral.as_bytes()); // <- e
        if self.has_secret {
            symmetric.mix_key(ephemeral.as_bytes());
        }
        symmetric.mix_agreement(&self.ephemeral, &ephemeral)?; // ee
        if let Some(key) = &self.key {
            symmetric.mix_agreement(key, &ephemeral)?; // se
        }
        let payload = symmetric.decrypt_and_hash(rest)?;
        Ok((symmetric.split(), payload))
    }
}

impl Responder {
    /// Reads the first message in place; gives its payload.
    pub(super) fn read<'m>(
        keys: &ResponderKeys<'_>,
        cipher: Cipher,
        prologue: &[u8],
        message: &'m mut [u8],
    ) -> Result<(Self, &'m mut [u8]), Rejected> {
        let mut symmetric = Symmetric::new(Suite { pattern: keys.pattern(), cipher }, prologue);
        let (key, secret) = match *keys {
            ResponderKeys::Ik { key } | ResponderKeys::Nk { key } => (Some(key), None),
            ResponderKeys::NnPsk0 { secret } => (None, Some(secret)),
        };
        let (place, mut rest) = message.split_first_chunk_mut::<KEY>().ok_or(Rejected::Malformed)?;
        let ephemeral = PublicKey(*place);
        let mut client = None;

        if let Some(key) = key {
            symmetric.mix_hash(key.public().as_bytes()); // <- s
        }
        if let Some(secret) = secret {
            symmetric.mix_key_and_hash(secret.secret()); // -> psk
        }
        symmetric.mix_hash(place); // -> e
        if secret.is_some() {
            symmetric.mix_key(place);
        }
        if let Some(key) = key {
            symmetric.mix_agreement(key.secret(), &ephemeral)?; // es
            if keys.pattern() == Pattern::Ik {
                let (place, payload) = rest.split_first_chunk_mut::<SEALED_KEY>().ok_or(Rejected::Malformed)?;
                let public = symmetric.decrypt_and_hash(place)?; // s
                let public = PublicKey(*public.first_chunk().ok_or(Rejected::Malformed)?);
                symmetric.mix_agreement(key.secret(), &public)?; // ss
                client = Some(public);
                rest = payload;
            }
        }
        let payload = symmetric.decrypt_and_hash(rest)?;
        Ok((Self { symmetric, ephemeral, client, has_secret: secret.is_some() }, payload))
    }

    /// Writes the second message: `out` is its place, with the payload at the end of which [`TAG`] bytes are free.
    pub(super) fn write(mut self, entropy: &[u8; 32], out: &mut [u8]) -> Result<Split, Rejected> {
        let ephemeral = PrivateKey::from_bytes(entropy);
        let (place, rest) = out.split_first_chunk_mut::<KEY>().ok_or(Rejected::Malformed)?;
        *place = *ephemeral.public().as_bytes();
        self.symmetric.mix_hash(place); // <- e
        if self.has_secret {
            self.symmetric.mix_key(place);
        }
        self.symmetric.mix_agreement(ephemeral.secret(), &self.ephemeral)?; // ee
        if let Some(client) = &self.client {
            self.symmetric.mix_agreement(ephemeral.secret(), client)?; // se
        }
        self.symmetric.encrypt_and_hash(rest)?;
        Ok(self.symmetric.split())
    }
}

/// Noise's `SymmetricState`, with the key of its `CipherState`.
#[derive(Clone)]
struct Symmetric {
    cipher: Cipher,
    /// `h`: what was said so far.
    hash: [u8; 32],
    /// `ck`, and `k` of the last `MixKey`.
    keys: [Secret; 2],
}

impl Symmetric {
    /// `InitializeSymmetric`, then `MixHash` of the prologue.
    fn new(suite: Suite, prologue: &[u8]) -> Self {
        let name = suite.protocol_name().as_bytes();
        let start = if name.len() <= 32 { concat(&[name]) } else { hash(&[name]) };
        let mut symmetric = Self { cipher: suite.cipher, hash: start, keys: [Secret::new(start), Secret::empty()] };
        symmetric.mix_hash(prologue);
        symmetric
    }

    /// `MixHash`
    #[cfg_attr(target_os = "none", inline(never))]
    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    /// `MixKey`
    fn mix_key(&mut self, input: &[u8]) {
        hkdf(&mut self.keys, input);
    }

    /// `MixKey` of `DH`
    #[cfg_attr(target_os = "none", inline(never))]
    fn mix_agreement(&mut self, own: &Secret, other: &PublicKey) -> Result<(), Rejected> {
        self.mix_key(&*agree(own, other)?);
        Ok(())
    }

    /// `MixKeyAndHash`
    fn mix_key_and_hash(&mut self, input: &[u8]) {
        let [chaining_key, _] = &self.keys;
        let mut keys = [chaining_key.clone(), Secret::empty(), Secret::empty()];
        hkdf(&mut keys, input);
        let [chaining_key, temp, key] = keys;
        self.mix_hash(&*temp);
        self.keys = [chaining_key, key];
    }

    /// `EncryptAndHash` in place; the last [`TAG`] bytes of `text` are for the tag.
    fn encrypt_and_hash(&mut self, text: &mut [u8]) -> Result<(), Rejected> {
        let (plain, tag) = text.split_last_chunk_mut().ok_or(Rejected::Malformed)?;
        let aead = RustCrypto::new(self.cipher, self.key()).ok_or(Rejected::Unsupported)?;
        *tag = aead.seal(0, &self.hash, plain).ok_or(Rejected::Malformed)?;
        self.mix_hash(text);
        Ok(())
    }

    /// `DecryptAndHash` in place.
    fn decrypt_and_hash<'t>(&mut self, text: &'t mut [u8]) -> Result<&'t mut [u8], Rejected> {
        let header = self.hash;
        self.mix_hash(text);
        if text.len() < TAG {
            return Err(Rejected::Malformed);
        }
        let aead = RustCrypto::new(self.cipher, self.key()).ok_or(Rejected::Unsupported)?;
        aead.open(0, &header, text).ok_or(Rejected::Forged)
    }

    fn key(&self) -> &Secret {
        let [_, key] = &self.keys;
        key
    }

    /// `Split`
    fn split(mut self) -> Split {
        hkdf(&mut self.keys, &[]);
        let [of_initiator, of_responder] = self.keys;
        Split { of_initiator, of_responder }
    }
}

#[cfg(test)]
mod tests;
