//! How a server proves to NATS who it is: what it says in CONNECT.

use std::fmt;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::address::NatsAddress;

/// What a server shows of itself, besides what its address says.
#[derive(Clone, Default)]
pub struct NatsCredentials {
    /// Signs what the server asks to be signed.
    key: Option<SigningKey>,
    /// A JWT that names that key.
    jwt: Option<Zeroizing<String>>,
}

impl fmt::Debug for NatsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsCredentials").finish_non_exhaustive()
    }
}

/// Why a file has no credentials.
#[derive(Debug)]
#[non_exhaustive]
pub enum NatsCredentialsError {
    /// It cannot be read.
    File(io::Error),
    /// There is no key in it, or it is damaged.
    Key,
    /// There is no JWT in it.
    Jwt,
}

impl fmt::Display for NatsCredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Key => f.write_str("no seed of a user's key (SU...) in it, or it is damaged"),
            Self::Jwt => f.write_str("no user's JWT in it"),
        }
    }
}

impl std::error::Error for NatsCredentialsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) => Some(error),
            _ => None,
        }
    }
}

impl NatsCredentials {
    /// Reads a file with a user's JWT and key, as `nsc` makes it.
    ///
    /// # Errors
    /// [`NatsCredentialsError`]
    pub fn read(path: &Path) -> Result<Self, NatsCredentialsError> {
        Self::from_text(&read(path)?)
    }

    /// Reads a file with the seed of a user's key alone.
    ///
    /// # Errors
    /// [`NatsCredentialsError`]
    pub fn read_key(path: &Path) -> Result<Self, NatsCredentialsError> {
        let text = read(path)?;
        let key = text.lines().find_map(seed).ok_or(NatsCredentialsError::Key)?;
        Ok(Self { key: Some(key), jwt: None })
    }

    fn from_text(text: &str) -> Result<Self, NatsCredentialsError> {
        let jwt = text.lines().map(str::trim).find(|line| line.starts_with("eyJ")).ok_or(NatsCredentialsError::Jwt)?;
        let key = text.lines().find_map(seed).ok_or(NatsCredentialsError::Key)?;
        Ok(Self { key: Some(key), jwt: Some(Zeroizing::new(jwt.to_owned())) })
    }

    /// What CONNECT says of who this is, to a server that wants this signed.
    pub(super) fn say(&self, address: &NatsAddress, nonce: Option<&str>, connect: &mut Map<String, Value>) {
        match &address.user {
            Some((user, Some(password))) => {
                connect.insert("user".into(), json!(user));
                connect.insert("pass".into(), json!(password));
            }
            Some((token, None)) => {
                connect.insert("auth_token".into(), json!(token));
            }
            None => {}
        }
        let Some(key) = &self.key else { return };
        match &self.jwt {
            Some(jwt) => connect.insert("jwt".into(), json!(**jwt)),
            None => connect.insert("nkey".into(), json!(public(key))),
        };
        if let Some(nonce) = nonce {
            let signature = key.sign(nonce.as_bytes()).to_bytes();
            connect.insert("sig".into(), json!(URL_SAFE_NO_PAD.encode(signature)));
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, NatsCredentialsError> {
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(NatsCredentialsError::File)
}

// --- nkeys: https://github.com/nats-io/nkeys ---

/// Of keys and seeds, in front, so that they begin with these letters.
const SEED: u8 = 18 << 3;
const USER: u8 = 20 << 3;

/// The key of a seed as text, `SU...`; `None` if it is none of a user.
fn seed(line: &str) -> Option<SigningKey> {
    let line = line.trim();
    let bytes = Zeroizing::new(base32_decode(line).filter(|bytes| bytes.len() == 36)?);
    let (body, sum) = bytes.split_last_chunk::<2>()?;
    let [first, second, seed @ ..] = body else { return None };
    let kind = (first & 7) << 5 | second >> 3;
    if crc16(body) != u16::from_le_bytes(*sum) || first & 0xf8 != SEED || kind != USER {
        return None;
    }
    Some(SigningKey::from_bytes(seed.try_into().ok()?))
}

/// The public key as text, `U...`.
fn public(key: &SigningKey) -> String {
    let mut bytes = vec![USER];
    bytes.extend_from_slice(key.verifying_key().as_bytes());
    let sum = crc16(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    base32_encode(&bytes)
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32_encode(bytes: &[u8]) -> String {
    let (mut text, mut bits, mut held) = (String::new(), 0u32, 0);
    for byte in bytes {
        (bits, held) = (bits << 8 | u32::from(*byte), held + 8);
        while held >= 5 {
            held -= 5;
            text.push(ALPHABET[(bits >> held & 31) as usize].into());
        }
    }
    if held > 0 {
        text.push(ALPHABET[(bits << (5 - held) & 31) as usize].into());
    }
    text
}

fn base32_decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for character in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == character)?;
        (bits, held) = (bits << 5 | value as u32, held + 5);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |mut sum, byte| {
        sum ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 };
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As NATS's documentation shows them.
    const KNOWN: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const ITS_PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn a_key_is_read_and_shown_as_others_do() {
        let key = seed(KNOWN).unwrap();
        assert_eq!(public(&key), ITS_PUBLIC);
        let damaged = KNOWN.replace('5', "4").replace("CSSL", "CSSM");
        for wrong in ["", "SUACSSL3", damaged.as_str(), KNOWN.replace("SUA", "SAA").as_str(), ITS_PUBLIC, "su"] {
            assert!(seed(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_said_is_what_the_server_asks_for() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.x.y\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n\
             {KNOWN}\n------END USER NKEY SEED------\n"
        );
        let credentials = NatsCredentials::from_text(&text).unwrap();
        let mut said = Map::new();
        credentials.say(&"nats://a".parse().unwrap(), Some("nonce"), &mut said);
        assert_eq!(said["jwt"], "eyJ0.x.y");
        let signature = URL_SAFE_NO_PAD.decode(said["sig"].as_str().unwrap()).unwrap();
        let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
        seed(KNOWN).unwrap().verifying_key().verify_strict(b"nonce", &signature).unwrap();
        let mut said = Map::new();
        NatsCredentials::default().say(&"nats://u:p@a".parse().unwrap(), None, &mut said);
        assert_eq!((&said["user"], &said["pass"], said.len()), (&json!("u"), &json!("p"), 2));
        assert!(matches!(NatsCredentials::from_text("eyJ"), Err(NatsCredentialsError::Key)));
        assert!(matches!(NatsCredentials::from_text(KNOWN), Err(NatsCredentialsError::Jwt)));
    }
}
