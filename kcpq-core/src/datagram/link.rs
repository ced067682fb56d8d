//! What lies around a session's segments, and how long its datagrams may be.

#[cfg(feature = "alloc")]
use super::native::CHALLENGE_LEN;
use super::native::Identity;
use super::parity::Parity;
use super::sealing::Sealing;
use super::{Content, Framing};
use crate::fec::header::{self, Numbering, Shards};
use crate::hello::Named;
use crate::kcp::Origin;
use crate::time::{Deadline, Instant};

/// One session's framing, both ways.
///
/// It alone knows how long the session's datagrams may be; whatever else needs a length asks it, or is told.
///
/// ```text
/// |<---------------------- max_datagram --------------------->|   bytes of UDP payload
/// | protection | FEC or native header |<--- mtu --->| tail |   the tail is the tag of sealed datagrams
/// |<----------- headroom ------------>|
/// ```
#[derive(Debug)]
pub(crate) struct Link {
    framing: Framing,
    max_datagram: u16,
    /// Bytes that the protection puts in front of what it protects.
    protection: u16,
    pub(super) identity: Identity,
    sealing: Sealing,
    numbering: Numbering,
    parity: Parity,
}

impl Link {
    /// Datagrams of at most `max_datagram` bytes of UDP payload, of which the protection takes `protection`.
    pub(crate) fn new(framing: Framing, max_datagram: u16, protection: u16) -> Self {
        let (numbering, parity) = (Numbering::new(Shards::KCPQ), Parity::new());
        let (identity, sealing) = (Identity::default(), Sealing::default());
        let mut link = Self { framing, max_datagram, protection, identity, sealing, numbering, parity };
        link.set(framing, max_datagram);
        link
    }

    /// The same for another conversation with nobody known yet.
    pub(crate) fn reset(&mut self, framing: Framing, max_datagram: u16) {
        *self = Self::new(framing, max_datagram, self.protection);
    }

    /// Changes framing and length; the numbering goes on.
    pub(crate) fn set(&mut self, framing: Framing, max_datagram: u16) {
        self.framing = framing;
        self.max_datagram = max_datagram;
        self.parity.set(framing, self.inner_len(), &mut self.numbering);
    }

    /// From now on the protection takes so many bytes.
    pub(crate) fn set_protection(&mut self, protection: u16) {
        self.protection = protection;
        self.set(self.framing, self.max_datagram);
    }

    /// The path carries datagrams with so many bytes of segments.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.set(self.framing, mtu.saturating_add(self.overhead()));
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn is(&self, framing: Framing, max_datagram: u16) -> bool {
        self.framing == framing && self.max_datagram == max_datagram
    }

    /// The longest datagram, in bytes of UDP payload.
    pub(crate) fn max_datagram(&self) -> u16 {
        self.max_datagram
    }

    /// Bytes that are not left for segments: where native datagrams are agreed, theirs, although others are sent at first.
    fn overhead(&self) -> u16 {
        self.overhead_of(self.framing)
    }

    /// The same with another framing.
    pub(crate) fn overhead_of(&self, framing: Framing) -> u16 {
        let around = if framing.is_plain() { self.identity.headroom() + self.sealing.tail() } else { header::LEN };
        self.protection + around as u16
    }

    /// Bytes in front of the segments.
    pub(crate) fn headroom(&self) -> usize {
        if self.identity.is_active() || !self.framing.is_plain() {
            usize::from(self.overhead()) - self.sealing.tail()
        } else {
            usize::from(self.protection)
        }
    }

    /// Bytes behind them.
    pub(crate) fn tail(&self) -> usize {
        self.sealing.tail()
    }

    /// Bytes that are left for segments.
    pub(crate) fn mtu(&self) -> u16 {
        self.max_datagram.saturating_sub(self.overhead())
    }

    /// Bytes inside of the protection.
    fn inner_len(&self) -> u16 {
        self.max_datagram.saturating_sub(self.protection)
    }

    /// Fills in what lies between protection and segments, and behind these. `number` is that of the datagram if it is a
    /// native one. `None` if it cannot be sealed any more.
    pub(crate) fn seal(&mut self, now: Instant, number: u64, datagram: &mut [u8]) -> Option<()> {
        let inner = datagram.get_mut(usize::from(self.protection)..)?;
        if self.sealing.is_on() {
            return self.sealing.seal(now, self.identity.named()?.id, number, inner);
        }
        if self.identity.is_active() {
            self.identity.seal(number, inner);
        } else if !self.framing.is_plain() && !self.parity.seal(now, inner) {
            let _ = header::write_data(self.numbering.data(), inner);
        }
        Some(())
    }

    /// Writes a parity datagram that is owed.
    pub(crate) fn poll_parity(&mut self, out: &mut [u8]) -> Option<usize> {
        let protection = usize::from(self.protection);
        Some(protection + self.parity.poll(out.get_mut(protection..)?)?)
    }

    /// Takes in a datagram without its protection for what it may rebuild. Returns its segments.
    #[inline]
    pub(crate) fn open<'d>(
        &mut self,
        now: Instant,
        datagram: &[u8],
        content: Content<'d>,
    ) -> Option<(&'d [u8], Origin)> {
        match content {
            Content::Native(header, body) => Some(self.identity.open(header, body)),
            Content::Plain(segments) => Some((segments, Origin::Wire)),
            Content::Fec(segments) => {
                // The first datagrams of a native peer are FEC-framed as well; it is known by its plain ones.
                self.parity.learn(now, datagram, !self.framing.is_plain());
                Some((segments, Origin::Wire))
            }
            Content::Parity => {
                self.parity.learn(now, datagram, true);
                None
            }
        }
    }

    /// The session's name, if it has one.
    pub(crate) fn named(&self) -> Option<Named> {
        self.identity.named()
    }

    /// The segments of a datagram that was rebuilt.
    pub(crate) fn poll_rebuilt(&mut self) -> Option<&[u8]> {
        self.parity.poll_rebuilt()
    }

    /// Drops what is too old to be of use.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.parity.on_time(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        self.parity.poll_timeout()
    }

    /// Bytes of memory taken by what may rebuild others.
    #[cfg(feature = "alloc")]
    pub(crate) fn held(&self) -> usize {
        self.parity.held()
    }

    /// Forgets that.
    #[cfg(feature = "alloc")]
    pub(crate) fn forget_helpers(&mut self) {
        self.parity.forget();
    }

    /// What the decoder saw; all zeros without one.
    #[cfg(feature = "fec")]
    pub(crate) fn fec_stats(&self) -> crate::fec::Stats {
        self.parity.stats()
    }
}

/// Native datagrams. Both ends know the session's name before one sends the first.
impl Link {
    /// The session has a name. This end `leads` if it sends the first native datagram.
    pub(crate) fn agree(&mut self, named: Named, leads: bool) {
        self.identity.agree(named, leads);
    }

    /// The session is to be a sealed one, by this handshake.
    #[cfg(feature = "sealed")]
    pub(crate) fn greet(&mut self, initiator: crate::seal::Initiator) {
        self.sealing.greet(initiator);
    }

    /// The handshake that is under way.
    #[cfg(feature = "sealed")]
    pub(crate) fn greeting(&mut self) -> Option<&mut crate::seal::Initiator> {
        self.sealing.greeting()
    }

    /// The session is a sealed one from its first datagram on, and needs no other protection.
    #[cfg(feature = "sealed")]
    pub(crate) fn begin_sealed(&mut self, named: Named, transport: crate::seal::Transport) {
        self.protection = 0;
        self.framing = Framing::Plain;
        self.identity.agree(named, false);
        self.identity.begin();
        self.sealing.begin(transport);
    }

    /// True if its datagrams are sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealing.is_on()
    }

    /// Opens a sealed datagram of this session in place. `None` if it is none, or not genuine.
    pub(crate) fn unseal<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Option<(&'d [u8], Content<'d>)> {
        self.sealing.open(now, datagram)
    }

    /// True if the first native datagram is to be sent by this end.
    pub(crate) fn leads(&self) -> bool {
        self.identity.leads()
    }

    /// Native datagrams are sent from now on, if a name was agreed and there is no parity. False if they were before.
    pub(crate) fn begin(&mut self) -> bool {
        let begins = self.framing.is_plain() && !self.identity.is_active();
        if begins {
            self.identity.begin();
        }
        begins && self.identity.is_active()
    }

    /// True if native datagrams are sent.
    pub(crate) fn is_native(&self) -> bool {
        self.identity.is_active()
    }

    /// True if nothing but a header comes to the segments of its datagrams, whatever these are.
    #[cfg(feature = "alloc")]
    pub(crate) fn is_only_framed(&self) -> bool {
        self.is_native() && !self.is_sealed() && self.protection == 0
    }

    /// True if no later datagram has come than the last one.
    #[cfg(feature = "alloc")]
    pub(crate) fn is_newest(&self) -> bool {
        self.identity.is_newest()
    }

    /// The answer to a challenge that came with the last datagram.
    #[cfg(feature = "alloc")]
    pub(crate) fn answer(&self) -> Option<[u8; CHALLENGE_LEN]> {
        self.identity.answer()
    }

    /// Writes a datagram with a challenge, without protection by the endpoint.
    #[cfg(feature = "alloc")]
    pub(crate) fn write_challenge(
        &mut self,
        now: Instant,
        number: u64,
        token: [u8; CHALLENGE_LEN],
        out: &mut [u8],
    ) -> Option<usize> {
        let len = self.identity.write_challenge(token, out)? + self.sealing.tail();
        let protection = core::mem::take(&mut self.protection);
        let sealed = self.seal(now, number, out.get_mut(..len)?);
        self.protection = protection;
        sealed.map(|()| len)
    }

    /// True if a challenge waits for its answer.
    pub(crate) fn owes_answer(&self) -> bool {
        self.identity.owes_answer()
    }

    /// Writes a datagram with the answer that is owed.
    pub(crate) fn write_answer(&mut self, now: Instant, number: u64, out: &mut [u8]) -> Option<usize> {
        let protection = usize::from(self.protection);
        let len = protection + self.identity.write_answer(out.get_mut(protection..)?)? + self.sealing.tail();
        self.seal(now, number, out.get_mut(..len)?).map(|()| len)
    }
}
