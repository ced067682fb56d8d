//! Native datagrams of a session: from when on they are sent, and what becomes of it at another address (PROTOCOL.md 1.5).

use super::Session;
use crate::datagram::native;
use crate::datagram::{self, Content};
use crate::hello::{Named, Reset};
use crate::outbox::FrameStore;
use crate::time::Instant;

/// What a server says of a session that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Anybody may have said so who sees the session's datagrams: a reason to ask.
    Hint,
    /// The server itself.
    Verdict,
}

/// Takes the same time for all tokens.
fn is_same(a: &[u8; Named::TOKEN], b: &[u8; Named::TOKEN]) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

impl<S: FrameStore> Session<S> {
    /// Both ends know the session by this name from now on. The one that `leads`, the client, sends native datagrams as soon as it
    /// has acknowledged what came in others; the server when the first one has come.
    pub(crate) fn agree(&mut self, named: Named, leads: bool) {
        self.link.agree(named, leads);
        self.kcp.set_mtu(self.link.mtu());
    }

    /// The server calls the session so, if it knows native datagrams.
    pub(crate) fn name(&mut self, named: Option<Named>) {
        if let Some(named) = named {
            self.agree(named, true);
        }
    }

    /// True if the datagram is of this session, as far as it says.
    fn is_named(&self, content: &Content<'_>) -> bool {
        match content {
            Content::Native(header, _) if header.is_sealed() => false,
            Content::Native(header, _) => self.link.named().is_some_and(|named| named.id == header.id()),
            _ => true,
        }
    }

    /// What the datagram says if it is the word of a server that it does not know this session. Of a sealed one nobody says so
    /// but the server itself.
    pub(crate) fn read_reset(&self, datagram: &[u8]) -> Option<Word> {
        let named = self.link.named();
        let hint = Some(Word::Hint).filter(|_| !self.link.is_sealed());
        match native::read_reset(datagram) {
            Some(told) => {
                let named = named.filter(|named| named.id == told.id)?;
                let known = named.token != [0; Named::TOKEN];
                if known && is_same(&told.token, &named.token) { Some(Word::Verdict) } else { hint }
            }
            None => hint.filter(|_| Reset::decode(datagram).is_some_and(|reset| reset.conv == self.kcp.conv())),
        }
    }

    /// By what this end gives the session up, if it has a name and the other end has told the token of it.
    pub(crate) fn farewell(&self) -> Option<Named> {
        self.link.named().filter(|named| named.token != [0; Named::TOKEN])
    }

    /// The session is to be a sealed one, by this handshake.
    #[cfg(feature = "sealed")]
    pub(crate) fn greet_by(&mut self, initiator: crate::seal::Initiator) {
        self.link.greet(initiator);
    }

    /// The handshake that is under way.
    #[cfg(feature = "sealed")]
    pub(crate) fn greeting(&mut self) -> Option<&mut crate::seal::Initiator> {
        self.link.greeting()
    }

    /// The session is a sealed one from its first datagram on: to be called before it is known to be a native one.
    #[cfg(feature = "sealed")]
    pub(crate) fn begin_sealed(&mut self, named: Named, transport: crate::seal::Transport) {
        self.link.begin_sealed(named, transport);
        self.kcp.set_mtu(self.link.mtu());
    }

    /// The peer has been heard by its handshake, and is to get a sealed datagram at once.
    #[cfg(feature = "sealed")]
    pub(crate) fn greet_sealed(&mut self, now: Instant) {
        self.kcp.on_heard(now);
        self.kcp.begin_numbers(now);
    }

    /// What the datagram holds for this session, opened in place if it is sealed. `None` if it is not for this session, or
    /// not what this session's are.
    pub(crate) fn open<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Option<(&'d [u8], Content<'d>)> {
        if !self.link.is_sealed() {
            let datagram: &[u8] = datagram;
            let content = datagram::parse(datagram).ok()?;
            return Some((datagram, content)).filter(|_| self.is_named(&content));
        }
        let named = self.link.named()?;
        if native::Header::split(datagram).is_none_or(|(header, _)| header.id() != named.id) {
            return None;
        }
        self.link.unseal(now, datagram)
    }

    /// True if its datagrams are sealed.
    #[cfg(any(feature = "alloc", feature = "sealed"))]
    pub(crate) fn is_sealed(&self) -> bool {
        self.link.is_sealed()
    }

    /// Native datagrams are sent from now on.
    pub(crate) fn begin_native(&mut self, now: Instant) {
        if self.link.begin() {
            self.kcp.begin_numbers(now);
        }
    }

    /// See [`agree`](Self::agree).
    pub(super) fn switch_form(&mut self, now: Instant) {
        if self.link.leads() && !self.kcp.owes_acks() {
            self.begin_native(now);
        }
    }

    /// The peer is to hear that this end is there, and where, although there is nothing to tell it.
    pub(crate) fn say(&mut self, now: Instant) {
        if self.may_move() {
            self.kcp.owe_window_update(now);
        }
    }

    /// True if the peer knows the session by its name, wherever it is.
    pub(crate) fn may_move(&self) -> bool {
        self.link.is_native()
    }

    /// One of the ends is at another address.
    pub(crate) fn on_new_path(&mut self, now: Instant) {
        self.kcp.on_new_path(now);
    }

    /// Writes a datagram that asks for an answer with `token`, without protection.
    #[cfg(feature = "alloc")]
    pub(crate) fn write_challenge(
        &mut self,
        now: Instant,
        token: [u8; native::CHALLENGE_LEN],
        out: &mut [u8],
    ) -> Option<usize> {
        let number = self.kcp.take_number(now)?;
        self.link.write_challenge(now, number, token, out)
    }

    /// Writes the answer to a challenge, if one is owed.
    pub(super) fn poll_path(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if !self.link.owes_answer() {
            return None;
        }
        let number = self.kcp.take_number(now)?;
        self.link.write_answer(now, number, out)
    }
}
