//! The recorded vectors, as the tests want them.

use serde_json::Value;

/// The recording of this text; the files lie in `tests/vectors`.
pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("a vector file is JSON")
}

/// The entries of an array; none if there is no such array.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text that must be there.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// A number that must be there.
pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// The bytes of a text of hexadecimal digits.
pub(crate) fn hex(value: &Value) -> Vec<u8> {
    let digits = text(value).as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}
