//! Keys as one line of text that tells its kind, and a mistyped key from a valid one.
//!
//! ```text
//! kcpq-public- | 56 characters: base 32 (RFC 4648, in lower case) of the 32 bytes and 3 bytes of checksum
//! ```
//!
//! The checksum is the beginning of BLAKE2s-256 over the prefix and the 32 bytes, so a key of one kind is not taken for one
//! of another. Digits are turned into bits by arithmetic: no table is read at a place that a secret chooses.

use core::fmt;
use core::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

use super::hash::hash;
use super::wire::concat;
use super::{PrivateKey, PublicKey, SharedSecret, Token, TokenHash};

/// Characters behind the prefix: 35 bytes, 5 bits each.
const DIGITS: usize = 56;

/// What a text is a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// [`PrivateKey`].
    Private,
    /// [`PublicKey`].
    Public,
    /// [`SharedSecret`].
    Shared,
    /// [`Token`].
    Token,
    /// [`TokenHash`].
    TokenHash,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Private, Self::Public, Self::Shared, Self::Token, Self::TokenHash];

    /// What its texts begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Private => "kcpq-private-",
            Self::Public => "kcpq-public-",
            Self::Shared => "kcpq-shared-",
            Self::Token => "kcpq-token-",
            Self::TokenHash => "kcpq-tokenhash-",
        }
    }

    fn checksum(self, key: &[u8; 32]) -> [u8; 3] {
        let [a, b, c, ..] = hash(&[self.prefix().as_bytes(), key]);
        [a, b, c]
    }

    fn parse(self, text: &str) -> Result<Zeroizing<[u8; 32]>, KeyTextError> {
        let Some(digits) = text.strip_prefix(self.prefix()) else {
            let found = Self::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()));
            return Err(match found {
                Some(found) => KeyTextError::Kind { wanted: self, found },
                None => KeyTextError::Prefix { wanted: self },
            });
        };
        let digits: &[u8; DIGITS] =
            digits.as_bytes().try_into().map_err(|_| KeyTextError::Length { len: digits.len() })?;
        let mut bytes = Zeroizing::new([0; 35]);
        for (index, (group, place)) in digits.as_chunks::<8>().0.iter().zip(bytes.as_chunks_mut::<5>().0).enumerate() {
            let mut bits = 0;
            for (offset, digit) in group.iter().enumerate() {
                let value = value(*digit).ok_or(KeyTextError::Digit { position: 8 * index + offset })?;
                bits = bits << 5 | u64::from(value);
            }
            let [_, _, _, bytes @ ..] = bits.to_be_bytes();
            *place = bytes;
            bits.zeroize();
        }
        let (key, checksum) = bytes.split_first_chunk::<32>().ok_or(KeyTextError::Checksum)?;
        if checksum == self.checksum(key) { Ok(Zeroizing::new(*key)) } else { Err(KeyTextError::Checksum) }
    }

    fn write(self, key: &[u8; 32]) -> KeyText {
        let bytes = Zeroizing::new(concat::<35>(&[key, &self.checksum(key)]));
        let mut digits = [0; DIGITS];
        for (group, place) in bytes.as_chunks::<5>().0.iter().zip(digits.as_chunks_mut::<8>().0) {
            let mut bits = group.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
            for digit in place.iter_mut().rev() {
                *digit = character((bits & 31) as u8);
                bits >>= 5;
            }
        }
        KeyText { kind: self, digits }
    }
}

/// The five bits of a character; both cases of letters are taken.
fn value(character: u8) -> Option<u8> {
    let letter = (character | 0x20).wrapping_sub(b'a');
    let digit = character.wrapping_sub(b'2');
    // 0xff where it is one, 0 otherwise: no branch on which of both.
    let is_letter = below(letter, 26);
    let is_digit = below(digit, 6);
    (is_letter | is_digit != 0).then_some(letter & is_letter | (digit.wrapping_add(26)) & is_digit)
}

/// The character of five bits.
fn character(value: u8) -> u8 {
    let is_letter = below(value, 26);
    b'a'.wrapping_add(value) & is_letter | b'2'.wrapping_add(value.wrapping_sub(26)) & !is_letter
}

/// All ones if a < b, otherwise zero.
fn below(a: u8, b: u8) -> u8 {
    (u16::from(a).wrapping_sub(u16::from(b)) >> 8) as u8
}

/// The text of a key, wiped on drop. `Display` writes it: into the file that keeps it, not into a log.
pub struct KeyText {
    kind: Kind,
    digits: [u8; DIGITS],
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.prefix())?;
        f.write_str(str::from_utf8(&self.digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyText").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Drop for KeyText {
    fn drop(&mut self) {
        self.digits.zeroize();
    }
}

impl PrivateKey {
    /// Its text, which is as secret as the key.
    pub fn to_text(&self) -> KeyText {
        Kind::Private.write(self.secret())
    }
}

impl SharedSecret {
    /// Its text, which is as secret as the key.
    pub fn to_text(&self) -> KeyText {
        Kind::Shared.write(self.secret())
    }
}

impl Token {
    /// Its text, which is as secret as the token.
    pub fn to_text(&self) -> KeyText {
        Kind::Token.write(self.secret())
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Kind::TokenHash.write(&self.0), f)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Kind::Public.write(&self.0), f)
    }
}

impl FromStr for PrivateKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        Ok(Self::from_bytes(&*Kind::Private.parse(text)?))
    }
}

impl FromStr for PublicKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        Ok(Self(*Kind::Public.parse(text)?))
    }
}

impl FromStr for SharedSecret {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        Ok(Self::from_bytes(&*Kind::Shared.parse(text)?))
    }
}

impl FromStr for Token {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        Ok(Self::from_bytes(&*Kind::Token.parse(text)?))
    }
}

impl FromStr for TokenHash {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        Ok(Self(*Kind::TokenHash.parse(text)?))
    }
}

/// Why a text is not the key that is wanted. Never holds a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum KeyTextError {
    /// Another kind of key.
    Kind {
        /// What is wanted.
        wanted: Kind,
        /// What it is.
        found: Kind,
    },
    /// It does not begin as a key does.
    Prefix {
        /// What is wanted.
        wanted: Kind,
    },
    /// Not 56 characters behind the prefix.
    Length {
        /// How many bytes there are.
        len: usize,
    },
    /// Neither a letter from a to z nor a digit from 2 to 7.
    Digit {
        /// Its place behind the prefix, from 0.
        position: usize,
    },
    /// The checksum is another: a character is wrong.
    Checksum,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private key",
            Self::Public => "public key",
            Self::Shared => "shared secret",
            Self::Token => "token",
            Self::TokenHash => "token's hash",
        })
    }
}

impl fmt::Display for KeyTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind { wanted, found } => write!(f, "this is a {found}, a {wanted} is needed"),
            Self::Prefix { wanted } => write!(f, "a {wanted} begins with {}", wanted.prefix()),
            Self::Length { len } => write!(f, "{DIGITS} characters follow the prefix of a key, here {len}"),
            Self::Digit { position } => write!(f, "character {position} behind the prefix is none that a key has"),
            Self::Checksum => f.write_str("a character of the key is wrong: its checksum does not match"),
        }
    }
}

impl core::error::Error for KeyTextError {}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::*;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn keys_come_back_from_their_text() {
        for seed in 0..20 {
            let text = key(seed).to_text().to_string();
            assert_eq!(text.len(), 69);
            assert_eq!(text.parse::<PrivateKey>().unwrap().secret()[..], [seed; 32]);
            let text = key(seed).public().to_string();
            assert_eq!(text.parse::<PublicKey>(), Ok(key(seed).public()));
            let text = SharedSecret::from_bytes(&[seed; 32]).to_text().to_string();
            assert_eq!(text.parse::<SharedSecret>().unwrap().secret(), &[seed; 32]);
            let token = Token::from_bytes(&[seed; 32]);
            assert_eq!(token.to_text().to_string().parse::<Token>().unwrap().secret()[..], [seed; 32]);
            assert_eq!(token.hash().to_string().parse::<TokenHash>(), Ok(token.hash()));
        }
    }

    #[test]
    fn the_digits_are_base_32_of_rfc_4648() {
        let alphabet: String = (0..32).map(|value| char::from(character(value))).collect();
        assert_eq!(alphabet, "abcdefghijklmnopqrstuvwxyz234567");
        for byte in 0..=u8::MAX {
            let expected = alphabet.bytes().position(|c| c == byte.to_ascii_lowercase());
            assert_eq!(value(byte).map(usize::from), expected, "{byte}");
        }
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let text = key(7).public().to_string();
        for at in 0..text.len() {
            for other in ['a', 'b', 'z', '2', '7', '0', '-', 'é'] {
                let mut typed: Vec<char> = text.chars().collect();
                if typed[at] == other {
                    continue;
                }
                typed[at] = other;
                let typed: String = typed.into_iter().collect();
                assert!(typed.parse::<PublicKey>().is_err(), "{typed}");
            }
            assert!(text[..at].parse::<PublicKey>().is_err());
            let mut swapped = text.clone().into_bytes();
            if at + 1 < swapped.len() && swapped[at] != swapped[at + 1] {
                swapped.swap(at, at + 1);
                assert!(str::from_utf8(&swapped).unwrap().parse::<PublicKey>().is_err());
            }
        }
        assert!((text + " ").parse::<PublicKey>().is_err());
    }

    #[test]
    fn a_key_of_another_kind_is_called_by_its_name() {
        let error = key(7).public().to_string().parse::<PrivateKey>().unwrap_err();
        assert_eq!(error.to_string(), "this is a public key, a private key is needed");
        let error = "ssh-ed25519 AAAA".parse::<PublicKey>().unwrap_err();
        assert_eq!(error.to_string(), "a public key begins with kcpq-public-");
        let error = Token::from_bytes(&[7; 32]).hash().to_string().parse::<Token>().unwrap_err();
        assert_eq!(error.to_string(), "this is a token's hash, a token is needed");
    }

    #[test]
    fn no_secret_is_shown_by_debug() {
        let shown = format!("{:?} {:?} {:?}", key(7), SharedSecret::from_bytes(&[7; 32]), Token::from_bytes(&[7; 32]));
        let digits = &key(7).to_text().to_string()[13..];
        assert!(!shown.contains(digits) && !shown.contains("7, 7") && !shown.contains("0707"), "{shown}");
        assert!(format!("{:?}", key(7).to_text()).ends_with(".. }"));
    }
}
