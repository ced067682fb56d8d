//! Subjects and patterns: dot-separated tokens, with the meaning that NATS gives them.
//!
//! ```text
//! subject   sensors.kitchen.temperature
//! pattern   sensors.*.temperature         `*` is exactly one token
//! pattern   sensors.>                     `>` is one token or more, and stands last
//! pattern   sensors*.>                    `sensors*` is a token like any other: a wildcard is a whole token
//! ```
//!
//! Tokens are compared byte by byte: case counts, and Unicode is not normalised. A token is not empty and has no space
//! and no ASCII control character (0x00 to 0x1f, 0x7f). NATS refuses space, tab, line feed, form feed and carriage
//! return only; the others are refused as well because they end up in logs and terminals. White space and control
//! characters beyond ASCII are allowed, as in NATS: what counts as one changes with the version of Unicode, and two
//! peers must not differ about which subjects exist.
//!
//! What begins with the token `$KCPQ` is the server's: nobody else publishes there, and a pattern that begins with a wildcard
//! does not match it, as in MQTT with `$SYS` (PROTOCOL.md 3.13).
//!
//! [`Subject`] and [`Pattern`] exist only when valid, so nothing behind them checks again. This is stricter than the
//! original, which accepts anything (PROTOCOL.md 5).
//!
//! ```
//! use kcpq_core::subject::{Limits, Pattern, Subject, SubjectError};
//!
//! let limits = Limits::DEFAULT;
//! let pattern = Pattern::new("sensors.*.temperature", &limits)?;
//! assert!(pattern.matches(Subject::new("sensors.kitchen.temperature", &limits)?));
//! assert_eq!(Subject::new("foo..bar", &limits), Err(SubjectError::EmptyToken { at: 4 }));
//! # Ok::<(), SubjectError>(())
//! ```
//!
//! What is known when the program is compiled is checked then: [`subject!`](crate::subject!) and
//! [`pattern!`](crate::pattern!).

#[cfg(feature = "alloc")]
mod checked;
mod plain;
mod reserved;
#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::Deref;

#[cfg(feature = "alloc")]
pub(crate) use checked::Checked;
pub use reserved::RESERVED;
#[cfg(feature = "alloc")]
pub(crate) use reserved::behind;
pub(crate) use reserved::is_reserved;

/// How long and how deep a subject may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Bytes.
    pub max_len: u16,
    /// Tokens.
    pub max_tokens: u8,
}

impl Limits {
    /// 4096 bytes as in the original's version 2.1 (docs/original.md 5.1), 32 tokens.
    pub const DEFAULT: Self = Self { max_len: 4096, max_tokens: 32 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a text is no subject, or no pattern. Positions are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SubjectError {
    /// Nothing.
    Empty,
    /// Two dots in a row, or one at the beginning or the end.
    EmptyToken {
        /// Where the token should be.
        at: usize,
    },
    /// A space or an ASCII control character.
    Illegal {
        /// Where.
        at: usize,
        /// Which.
        byte: u8,
    },
    /// A token that is a wildcard, in a subject that is published to.
    Wildcard {
        /// Where.
        at: usize,
    },
    /// The token `>` in a pattern, and further tokens behind it.
    TailNotLast {
        /// Where.
        at: usize,
    },
    /// Too many bytes.
    TooLong {
        /// The most allowed.
        limit: u16,
        /// How many there are.
        actual: usize,
    },
    /// Too many tokens.
    TooDeep {
        /// The most allowed.
        limit: u8,
    },
    /// Not UTF-8.
    NotUtf8 {
        /// Where it stops to be.
        at: usize,
    },
}

impl SubjectError {
    /// What is wrong in a few words, without where.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Empty => "invalid subject: it is empty",
            Self::EmptyToken { .. } => "invalid subject: empty token",
            Self::Illegal { .. } => "invalid subject: space or control character",
            Self::Wildcard { .. } => "invalid subject: wildcard, which only a subscription may have",
            Self::TailNotLast { .. } => "invalid subject: '>' is not the last token",
            Self::TooLong { .. } => "invalid subject: too long",
            Self::TooDeep { .. } => "invalid subject: too many tokens",
            Self::NotUtf8 { .. } => "invalid subject: not UTF-8",
        }
    }
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid subject: ")?;
        match *self {
            Self::Empty => f.write_str("it is empty"),
            Self::Illegal { at, byte: b' ' } => write!(f, "space at byte {at}"),
            Self::EmptyToken { at } => write!(f, "empty token at byte {at}"),
            Self::Illegal { at, byte } => write!(f, "control character 0x{byte:02x} at byte {at}"),
            Self::Wildcard { at } => write!(f, "wildcard at byte {at}, which only a subscription may have"),
            Self::TailNotLast { at } => write!(f, "'>' at byte {at} is not the last token"),
            Self::TooLong { limit, actual } => write!(f, "{actual} bytes, the limit is {limit}"),
            Self::TooDeep { limit } => write!(f, "more than {limit} tokens"),
            Self::NotUtf8 { at } => write!(f, "not UTF-8 at byte {at}"),
        }
    }
}

impl core::error::Error for SubjectError {}

/// A [`Subject`] that is checked when the program is compiled, with [`Limits::DEFAULT`]. It is passed by reference to what
/// takes the text of a subject.
///
/// ```
/// use kcpq_core::subject;
/// use kcpq_core::subject::Subject;
///
/// const TEMPERATURE: Subject<'static> = subject!("sensors.kitchen.temperature");
///
/// fn publish(subject: &str) {
///     println!("to {subject}");
/// }
///
/// publish(&TEMPERATURE);
/// publish(&subject!("sensors.cellar.temperature"));
/// ```
///
/// What is none does not compile:
///
/// ```compile_fail
/// let none = kcpq_core::subject!("sensors..temperature");
/// ```
///
/// ```compile_fail
/// let pattern = kcpq_core::subject!("sensors.*.temperature");
/// ```
#[macro_export]
macro_rules! subject {
    ($text:expr) => {
        const {
            match $crate::subject::Subject::new($text, &$crate::subject::Limits::DEFAULT) {
                Ok(subject) => subject,
                Err(error) => panic!("{}", error.what()),
            }
        }
    };
}

/// A [`Pattern`] that is checked when the program is compiled, as [`subject!`](crate::subject!) does it.
///
/// ```
/// let pattern = kcpq_core::pattern!("sensors.*.temperature");
/// assert!(pattern.matches(kcpq_core::subject!("sensors.kitchen.temperature")));
/// ```
///
/// ```compile_fail
/// let none = kcpq_core::pattern!("sensors.>.temperature");
/// ```
#[macro_export]
macro_rules! pattern {
    ($text:expr) => {
        const {
            match $crate::subject::Pattern::new($text, &$crate::subject::Limits::DEFAULT) {
                Ok(pattern) => pattern,
                Err(error) => panic!("{}", error.what()),
            }
        }
    };
}

/// A subject that messages are published to: no wildcards. It is its text, wherever such is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject<'a>(&'a str);

/// A pattern that is subscribed to. It is its text, wherever such is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pattern<'a>(&'a str);

impl<'a> Subject<'a> {
    /// A subject of this text. `const`, so that a firmware's subjects are checked when it is compiled.
    ///
    /// # Errors
    /// [`SubjectError`] says what is wrong with `text`, and where.
    pub const fn new(text: &'a str, limits: &Limits) -> Result<Self, SubjectError> {
        match check(text, limits, false) {
            Ok(()) => Ok(Self(text)),
            Err(error) => Err(error),
        }
    }

    /// The same from bytes of a frame.
    ///
    /// # Errors
    /// [`SubjectError`], also when `bytes` are not UTF-8.
    pub fn from_bytes(bytes: &'a [u8], limits: &Limits) -> Result<Self, SubjectError> {
        Self::new(utf8(bytes, limits)?, limits)
    }

    /// The text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The tokens from left to right.
    pub fn tokens(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.0.split('.')
    }

    /// True if only a server publishes to it, because its first token is [`RESERVED`]. Nothing matches it that begins with a
    /// wildcard.
    #[inline]
    pub fn is_reserved(self) -> bool {
        is_reserved(self.0.as_bytes())
    }
}

impl<'a> Pattern<'a> {
    /// A pattern of this text. `const`, so that a firmware's patterns are checked when it is compiled.
    ///
    /// # Errors
    /// [`SubjectError`] says what is wrong with `text`, and where.
    pub const fn new(text: &'a str, limits: &Limits) -> Result<Self, SubjectError> {
        match check(text, limits, true) {
            Ok(()) => Ok(Self(text)),
            Err(error) => Err(error),
        }
    }

    /// The same from bytes of a frame.
    ///
    /// # Errors
    /// [`SubjectError`], also when `bytes` are not UTF-8.
    pub fn from_bytes(bytes: &'a [u8], limits: &Limits) -> Result<Self, SubjectError> {
        Self::new(utf8(bytes, limits)?, limits)
    }

    /// The text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The tokens from left to right.
    pub fn tokens(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.0.split('.')
    }

    /// True if it has no wildcard, so that it matches one subject only.
    pub fn is_literal(self) -> bool {
        self.tokens().all(|token| token != "*" && token != ">")
    }

    /// True if it matches nothing but subjects that [only a server publishes to](Subject::is_reserved); otherwise it matches
    /// none of these.
    #[inline]
    pub fn is_reserved(self) -> bool {
        is_reserved(self.0.as_bytes())
    }

    /// True if messages to `subject` are for this pattern. One pass over both, without allocation.
    pub fn matches(self, subject: Subject<'_>) -> bool {
        matches(self.0, subject.0.as_bytes())
    }
}

/// What both are: their text.
macro_rules! text {
    ($type:ident) => {
        impl Deref for $type<'_> {
            type Target = str;

            fn deref(&self) -> &str {
                self.0
            }
        }

        impl AsRef<str> for $type<'_> {
            fn as_ref(&self) -> &str {
                self.0
            }
        }

        impl fmt::Display for $type<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.0)
            }
        }
    };
}

text!(Subject);
text!(Pattern);

/// Matches texts that are known to be a pattern and a subject.
pub(crate) fn matches(pattern: &str, subject: &[u8]) -> bool {
    let (mut pattern, mut subject) = (pattern.as_bytes(), subject);
    if matches!(pattern, [b'*' | b'>', ..]) && is_reserved(subject) {
        return false;
    }
    loop {
        match (pattern, subject) {
            ([], []) => return true,
            ([b'>'], [_, ..]) => return true,
            ([b'*', rest @ ..], [_, ..]) if matches!(rest, [] | [b'.', ..]) => {
                let end = subject.iter().position(|byte| *byte == b'.').unwrap_or(subject.len());
                (pattern, subject) = (rest, &subject[end..]);
            }
            _ => {
                // A literal token, with the dot behind it.
                let end = pattern.iter().position(|byte| *byte == b'.').unwrap_or(pattern.len());
                let Some(rest) = subject.strip_prefix(&pattern[..end]) else { return false };
                (pattern, subject) = (&pattern[end..], rest);
            }
        }
        (pattern, subject) = match (pattern, subject) {
            ([], []) => return true,
            ([b'.', pattern @ ..], [b'.', subject @ ..]) => (pattern, subject),
            _ => return false,
        };
    }
}

fn utf8<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, SubjectError> {
    if bytes.len() > usize::from(limits.max_len) {
        return Err(SubjectError::TooLong { limit: limits.max_len, actual: bytes.len() });
    }
    core::str::from_utf8(bytes).map_err(|error| SubjectError::NotUtf8 { at: error.valid_up_to() })
}

/// Where registers hold eight bytes.
const QUICK: bool = cfg!(target_pointer_width = "64");

const fn check(text: &str, limits: &Limits, wildcards: bool) -> Result<(), SubjectError> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(SubjectError::Empty);
    }
    if bytes.len() > limits.max_len as usize {
        return Err(SubjectError::TooLong { limit: limits.max_len, actual: bytes.len() });
    }
    // So short a text has no more tokens than there may be.
    if QUICK && bytes.len() < 2 * limits.max_tokens as usize && plain::is_plain(bytes) {
        return Ok(());
    }
    walk(bytes, limits.max_tokens, wildcards)
}

/// One pass over the bytes, from left to right: the first thing wrong is reported.
const fn walk(bytes: &[u8], max_tokens: u8, wildcards: bool) -> Result<(), SubjectError> {
    let (mut rest, mut tokens) = (bytes, 0u8);
    loop {
        let token = rest;
        let (mut len, mut ends) = (0, true);
        while let [byte, behind @ ..] = rest {
            rest = behind;
            if *byte == b'.' {
                ends = false;
                break;
            }
            if *byte <= b' ' || *byte == 0x7f {
                return Err(SubjectError::Illegal { at: bytes.len() - rest.len() - 1, byte: *byte });
            }
            len += 1;
        }
        let at = bytes.len() - token.len();
        match (len, token) {
            (0, _) => return Err(SubjectError::EmptyToken { at }),
            (1, [b'*' | b'>', ..]) if !wildcards => return Err(SubjectError::Wildcard { at }),
            (1, [b'>', ..]) if !ends => return Err(SubjectError::TailNotLast { at }),
            _ => {}
        }
        if tokens == max_tokens {
            return Err(SubjectError::TooDeep { limit: max_tokens });
        }
        if ends {
            return Ok(());
        }
        tokens += 1;
    }
}
