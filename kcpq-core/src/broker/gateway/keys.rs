//! Keys of a bucket. A key has letters, digits, `-`, `_`, `/`, `.` and `=`
//! (<https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md>): a subject is a key as far as it has
//! nothing else. All other bytes, and `=` itself, are written `=` and two digits, as in quoted-printable.

use alloc::string::String;
use alloc::vec::Vec;

/// Appends the key of a subject.
pub(super) fn write(subject: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).map_or('0', |digit| char::from(*digit));
    for byte in subject.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'.') {
            out.push(char::from(byte));
        } else {
            out.extend(['=', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// The subject of a key; `None` if it is that of none: each subject has one key.
pub(super) fn read(key: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(key.len()), key.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => (digit(rest.next()?)? << 4) | digit(rest.next()?)?,
            byte => byte,
        });
    }
    let subject = String::from_utf8(bytes).ok()?;
    let mut again = String::with_capacity(key.len());
    write(&subject, &mut again);
    Some(subject).filter(|_| again == key)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_one_key_and_is_found_by_it() {
        for (subject, key) in
            [("a.b-c_d/e.F9", "a.b-c_d/e.F9"), ("a=b", "a=3Db"), ("$x.@:", "=24x.=40=3A"), ("温.ä", "=E6=B8=A9.=C3=A4")]
        {
            let mut out = String::new();
            write(subject, &mut out);
            assert_eq!((&*out, read(key).as_deref()), (key, Some(subject)));
        }
        for none in ["a=", "a=4", "a=4x", "a=41", "a=3d", "a=C3", "a=C3=28", "a b", "ä"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
