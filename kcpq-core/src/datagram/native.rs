//! Native datagrams: a session's name, by which it is found wherever its peer is, and a number (PROTOCOL.md 1.5).
//!
//! A body may begin with `10 | 8 bytes`, a challenge to answer from the same address, or `11 | 8 bytes`, that answer.

use crate::header::{HEADER, expand, header, id_of, kind, kind_of, low_number_of};
use crate::hello::Named;
use crate::kcp::Origin;

/// A challenge or its answer, in bytes.
pub(crate) const CHALLENGE_LEN: usize = 8;

const CHALLENGE: u8 = 0x10;
const RESPONSE: u8 = 0x11;

/// The header of a native datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    id: u64,
    kind: u8,
    number: u32,
}

impl Header {
    /// The session's name.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// True if what follows is sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.kind != kind::DATA
    }

    pub(super) fn of(head: &[u8; HEADER]) -> Self {
        Self { id: id_of(head), kind: kind_of(head), number: low_number_of(head) }
    }

    /// Splits the header off a datagram; `None` if it has another form.
    pub(crate) fn split(datagram: &[u8]) -> Option<(Self, &[u8])> {
        let (head, body) = datagram.split_first_chunk()?;
        matches!(kind_of(head), kind::DATA | kind::SEALED | kind::SEALED_ODD).then(|| (Self::of(head), body))
    }
}

/// The word of a server that it does not know this session, or of a client that gives it up.
pub(crate) fn reset(named: Named) -> [u8; HEADER + Named::TOKEN] {
    let mut datagram = [0; HEADER + Named::TOKEN];
    datagram[..HEADER].copy_from_slice(&header(named.id, kind::RESET, 0));
    datagram[HEADER..].copy_from_slice(&named.token);
    datagram
}

/// Reads it; `None` if the datagram is something else.
pub(crate) fn read_reset(datagram: &[u8]) -> Option<Named> {
    let (head, rest) = datagram.split_first_chunk()?;
    let token = *rest.first_chunk().filter(|token| token.len() == rest.len())?;
    (kind_of(head) == kind::RESET).then(|| Named { id: id_of(head), token })
}

/// The form that a session's datagrams get once both ends have agreed upon its name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Identity {
    named: Option<Named>,
    /// They are sent; or this end is to begin with that.
    active: bool,
    leads: bool,
    /// One more than the highest number that has come, 0 before.
    taken: u64,
    /// The last datagram was the newest of all.
    newest: bool,
    /// A challenge that is to be answered, and the answer to ours.
    challenge: Option<[u8; CHALLENGE_LEN]>,
    answer: Option<[u8; CHALLENGE_LEN]>,
}

impl Identity {
    /// The session's name, if one was agreed.
    pub(super) fn named(&self) -> Option<Named> {
        self.named
    }

    /// The session has this name from now on. It is used from [`begin`](Self::begin) on.
    pub(super) fn agree(&mut self, named: Named, leads: bool) {
        *self = Self { named: Some(named), leads, ..Self::default() };
    }

    /// True if this end is to send the first one.
    pub(super) fn leads(&self) -> bool {
        self.leads
    }

    pub(super) fn begin(&mut self) {
        self.active = self.named.is_some();
        self.leads = false;
    }

    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Bytes that it takes of each datagram, or will take.
    pub(super) fn headroom(&self) -> usize {
        if self.named.is_some() { HEADER } else { 0 }
    }

    /// Writes the header.
    pub(super) fn seal(&self, number: u64, datagram: &mut [u8]) {
        if let Some(named) = self.named
            && let Some(place) = datagram.first_chunk_mut()
        {
            *place = header(named.id, kind::DATA, number);
        }
    }

    /// Takes in a datagram. Returns its segments, as items.
    pub(super) fn open<'d>(&mut self, header: Header, mut body: &'d [u8]) -> (&'d [u8], Origin) {
        let number = expand(header.number, self.taken);
        self.newest = number >= self.taken;
        self.taken = self.taken.max(number + 1);
        self.answer = None;
        while let Some((&kind @ (CHALLENGE | RESPONSE), rest)) = body.split_first()
            && let Some((token, rest)) = rest.split_first_chunk()
        {
            if kind == CHALLENGE {
                self.challenge = Some(*token);
            } else {
                self.answer = Some(*token);
            }
            body = rest;
        }
        (body, Origin::Numbered(number as u32))
    }

    /// True if no later datagram has come than the last one.
    #[cfg(feature = "alloc")]
    pub(super) fn is_newest(&self) -> bool {
        self.newest
    }

    /// The answer to a challenge that came with the last datagram.
    #[cfg(feature = "alloc")]
    pub(super) fn answer(&self) -> Option<[u8; CHALLENGE_LEN]> {
        self.answer
    }

    /// Writes a challenge behind the place of a header; returns where it ends.
    #[cfg(feature = "alloc")]
    pub(super) fn write_challenge(&self, token: [u8; CHALLENGE_LEN], out: &mut [u8]) -> Option<usize> {
        write_token(CHALLENGE, token, out)
    }

    /// True if a challenge waits for its answer.
    pub(super) fn owes_answer(&self) -> bool {
        self.challenge.is_some()
    }

    /// Writes the answer that is owed likewise.
    pub(super) fn write_answer(&mut self, out: &mut [u8]) -> Option<usize> {
        write_token(RESPONSE, self.challenge.take()?, out)
    }
}

fn write_token(kind: u8, token: [u8; CHALLENGE_LEN], out: &mut [u8]) -> Option<usize> {
    let end = HEADER + 1 + CHALLENGE_LEN;
    let (first, rest) = out.get_mut(HEADER..end)?.split_first_mut()?;
    *first = kind;
    rest.copy_from_slice(&token);
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: Named = Named { id: 0x0123_4567_89ab_cdef, token: [7; Named::TOKEN] };

    #[test]
    fn a_header_comes_back_as_it_went() {
        let mut identity = Identity::default();
        identity.agree(NAMED, true);
        let mut out = [0; HEADER + 2];
        identity.seal(0x99_abcd_ef01, &mut out);
        let (header, body) = Header::split(&out).unwrap();
        assert_eq!((header.id, header.number, body.len()), (NAMED.id, 0xcd_ef01, 2));
        assert_eq!(read_reset(&out), None);
    }

    #[test]
    fn a_reset_is_read_whole_or_not_at_all() {
        let datagram = reset(NAMED);
        assert_eq!(read_reset(&datagram), Some(NAMED));
        assert_eq!(Header::split(&datagram), None);
        assert_eq!(read_reset(&datagram[..27]), None);
        assert_eq!(read_reset(&[&datagram[..], &[0]].concat()), None);
    }

    #[test]
    fn challenge_and_answer_pass_one_another() {
        let (mut a, mut b) = (Identity::default(), Identity::default());
        a.agree(NAMED, false);
        b.agree(NAMED, true);
        let mut out = [0; 64];
        let len = a.write_challenge(*b"01234567", &mut out).unwrap();
        a.seal(0, &mut out);
        let (header, body) = Header::split(&out[..len]).unwrap();
        assert!(b.open(header, body).0.is_empty());
        assert!(b.owes_answer() && b.is_newest());
        let len = b.write_answer(&mut out).unwrap();
        b.seal(0, &mut out);
        assert!(!b.owes_answer());
        let (header, body) = Header::split(&out[..len]).unwrap();
        a.open(header, body);
        assert_eq!(a.answer(), Some(*b"01234567"));
        a.open(header, body);
        assert!(!a.is_newest(), "it was doubled");
    }
}
