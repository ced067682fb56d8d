//! Cuts a byte stream of H.264 (ITU-T H.264, annex B) into access units: all that belongs to one picture.

use std::fmt;

/// The longest access unit, in bytes: more than the largest message that a server takes unless it is told otherwise.
const MAX_UNIT: usize = 8 << 20;

/// What of the stream has come and is not yet handed out.
#[derive(Debug, Default)]
pub(crate) struct AccessUnits {
    /// Begins with a start code, once there was one.
    bytes: Vec<u8>,
    /// Start codes before here have been looked at.
    looked_at: usize,
    /// A start code has been seen.
    begun: bool,
    /// The access unit at the front has a picture.
    has_picture: bool,
}

/// In eight MiB there was no end of an access unit: this is no H.264, or not in the format of annex B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no access unit ends within {MAX_UNIT} bytes: is this H.264 with start codes (ffmpeg's '-f h264')?")
    }
}

impl std::error::Error for TooLong {}

impl AccessUnits {
    /// The stream goes on with these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next access unit that is whole. The last one that has come is so only when the next begins.
    ///
    /// # Errors
    /// See [`TooLong`].
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        // What is in a unit is told by the two bytes behind a start code.
        while let Some(code) = self.bytes[self.looked_at..].windows(3).position(|window| window == [0, 0, 1])
            && let at = self.looked_at + code
            && let Some(&[header, first]) = self.bytes.get(at + 3..at + 5)
        {
            // A longer start code has one zero more.
            let begin = if at > 0 && self.bytes[at - 1] == 0 { at - 1 } else { at };
            let kind = header & 0x1f;
            if !self.begun {
                // Whoever comes later to a stream hears the end of something first.
                self.bytes.drain(..begin);
                (self.begun, self.looked_at) = (true, at - begin);
                continue;
            }
            let unit = (self.has_picture && begins_unit(kind, first)).then(|| self.bytes.drain(..begin).collect());
            self.looked_at = if unit.is_some() { at - begin } else { at } + 3;
            self.has_picture = self.has_picture && unit.is_none() || (1..=5).contains(&kind);
            if unit.is_some() {
                return Ok(unit);
            }
        }
        // A start code may have begun in the last bytes.
        self.looked_at = self.looked_at.max(self.bytes.len().saturating_sub(5));
        if self.bytes.len() > MAX_UNIT { Err(TooLong) } else { Ok(None) }
    }

    /// The stream ends, and with it the last access unit.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        (self.begun && self.has_picture).then_some(self.bytes)
    }
}

/// Whether a NAL unit of this kind, and with this first byte behind its header, cannot belong to the picture before it
/// (7.4.1.2.3): a slice does not if it holds the first macroblock, whose number 0 is coded as a single bit.
fn begins_unit(kind: u8, first: u8) -> bool {
    match kind {
        1 | 2 | 5 => first & 0x80 != 0,
        6..=9 | 14..=18 => true,
        _ => false,
    }
}

/// True if a decoder can begin with this access unit: it has an IDR picture.
pub(crate) fn is_key(unit: &[u8]) -> bool {
    unit.windows(4).any(|window| window[..3] == [0, 0, 1] && window[3] & 0x1f == 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 0x42, 0xc0];
    const PPS: &[u8] = &[0, 0, 0, 1, 0x68, 0xce, 0x3c];
    const IDR: &[u8] = &[0, 0, 1, 0x65, 0x88, 0x84, 0, 0, 3, 1];
    const IDR_MORE: &[u8] = &[0, 0, 1, 0x65, 0x40, 0x84];
    const SLICE: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a, 0x02];
    const SLICE_MORE: &[u8] = &[0, 0, 1, 0x41, 0x22, 0x02];

    fn units(stream: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (mut units, mut found) = (AccessUnits::default(), Vec::new());
        for bytes in stream.chunks(step) {
            units.push(bytes);
            while let Some(unit) = units.next().unwrap() {
                found.push(unit);
            }
        }
        found.extend(units.finish());
        found
    }

    #[test]
    fn pictures_are_told_apart_however_their_bytes_come() {
        let expected = [[SPS, PPS, IDR, IDR_MORE].concat(), [SLICE, SLICE_MORE].concat(), SLICE.to_vec(), SPS.to_vec()];
        let mut stream = expected.concat();
        stream.extend_from_slice(&[PPS, IDR].concat());
        for step in [1, 2, 3, 5, 7, 1000] {
            let found = units(&stream, step);
            assert_eq!(found[..3], expected[..3], "{step} bytes at once");
            assert_eq!(found[3], [SPS, PPS, IDR].concat());
            assert_eq!(found.iter().map(|unit| is_key(unit)).collect::<Vec<_>>(), [true, false, false, true]);
        }
    }

    #[test]
    fn the_end_of_what_came_before_is_left_out() {
        assert_eq!(units(&[&[9, 9, 9], SLICE].concat(), 1), [SLICE]);
        assert!(units(b"no video at all", 4).is_empty());
    }

    #[test]
    fn what_is_no_video_is_refused_before_it_fills_the_memory() {
        let mut units = AccessUnits::default();
        units.push(&vec![7; MAX_UNIT]);
        assert_eq!(units.next(), Ok(None));
        units.push(&[7]);
        assert_eq!(units.next(), Err(TooLong));
    }
}
