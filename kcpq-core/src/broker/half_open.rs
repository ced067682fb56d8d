//! What may go to an address that nothing was proved of: it may be forged, and what is sent there hit somebody else.

/// Bytes in front of each datagram on its way, in an IPv4 network: they count as well.
const HEADERS: usize = 28;
/// So many times what came may be sent (as in RFC 9000 8.1).
const FACTOR: usize = 3;
/// What is worth a datagram: an acknowledgement, with the most that may lie around it.
const LEAST: usize = 96;

/// The bytes that came from there and went there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HalfOpen {
    received: usize,
    sent: usize,
}

impl HalfOpen {
    pub(super) fn on_received(&mut self, len: usize) {
        self.received += HEADERS + len;
    }

    pub(super) fn on_sent(&mut self, len: usize) {
        self.sent += HEADERS + len;
    }

    /// The longest datagram that may go; `None` if that is not worth it.
    pub(super) fn room(&self) -> Option<usize> {
        let left = (FACTOR * self.received).checked_sub(self.sent + HEADERS)?;
        Some(left).filter(|left| *left >= LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_three_times_what_came_is_sent() {
        let mut half_open = HalfOpen::default();
        assert_eq!(half_open.room(), None);
        let (mut received, mut sent) = (0, 0);
        for len in [40, 62, 200, 30, 1_200] {
            half_open.on_received(len);
            received += len + HEADERS;
            while let Some(room) = half_open.room() {
                half_open.on_sent(room.min(1_200));
                sent += room.min(1_200) + HEADERS;
            }
            assert!(sent <= 3 * received && sent + 200 > 3 * received, "{sent} of {received}");
        }
    }
}
