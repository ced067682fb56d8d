//! Fair shares of a thread's time, which is counted in work: there is no clock here.
//!
//! A turn is what a broker does between two looks of its driver at the network. What has come is read at once as long
//! as that takes no more than [`READ`] in all; beyond it each session still has [`LEAST`]. Who asks for more is put
//! off: its bytes wait where they came in, so that its window closes. When all others have been sent what there is for
//! them, those who were put off are read on one after the other, [`QUANTUM`] each, by deficit round robin (Shreedhar
//! and Varghese, 1995). When that, and what is sent, has taken [`TURN`] the turn is over, and the driver looks at the
//! network again.
//!
//! So whoever asks little is read in the turn in which it came, and served before those who ask for much, as RFC 8290
//! does it with flows; and these have half of each turn at least.

/// Work of a turn beside what is read at once. One is about what it takes to read a small frame, or to queue a message
/// for a subscriber: some 700 instructions, a fifth of a microsecond of a fast processor.
pub(super) const TURN: u32 = 2048;
/// Most of what is read at once: to put it off costs a copy.
pub(super) const READ: u32 = 2 * TURN;
/// What each session may have done in a turn, however much others do.
pub(super) const LEAST: u32 = 64;
/// What one that was put off may have done before it is another one's turn.
pub(super) const QUANTUM: u32 = 256;

/// A frame is read.
pub(super) const FRAME: u32 = 1;
/// Something is written that is more than a message: a pattern, a will, an answer for people.
pub(super) const ENTRY: u32 = 4;
/// The router's steps, and bytes of frames, that are as much as one.
pub(super) const STEPS: u32 = 32;
pub(super) const BYTES: usize = 4096;
/// It is looked through kept values in vain.
const SEARCH: u32 = TURN / 16;
/// Datagrams are handed to the system.
const BATCH: u32 = 16;
/// Who is sent so many bytes at a time has much to get.
pub(super) const BULK: usize = 16 * 1024;

/// Most sessions that are opened in a turn for who has not shown to be anybody: each takes some 10 us with all that follows
/// from it, for which who is here already waits.
const NEWCOMERS: u32 = 16;

/// Of one broker: the turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    number: u32,
    /// What reading at once has taken.
    read: u32,
    /// What everything else has taken.
    spent: u32,
    /// Sessions that were opened.
    newcomers: u32,
    /// A handshake was opened.
    #[cfg(feature = "sealed")]
    has_opened: bool,
    /// What the session that is read may still have done; what it had is [`lent`](Self::lend).
    left: i32,
    lent: i32,
}

/// Of one session: what was done for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// The turn in which it was last read at once.
    turn: u32,
    /// Work that it has not paid for yet by letting others go first.
    spent: u32,
}

impl Turn {
    // --- a session is read ---

    /// The frames of a session are read as they come, and what it had is used up. False if it gets no more.
    pub(super) fn lend(&mut self, account: &mut Account) -> bool {
        if self.is_lent() {
            return false;
        }
        if account.turn != self.number {
            account.turn = self.number;
            account.spent = account.spent.saturating_sub(QUANTUM);
        }
        let least = LEAST as i32 - account.spent.min(READ) as i32;
        self.left = least.max(READ as i32 - self.read.min(READ) as i32);
        self.lent = self.left;
        self.left > 0
    }

    /// It is the turn of a session that was put off. False if it has had so much before that it is the others' turn
    /// again.
    pub(super) fn lend_again(&mut self, account: &mut Account) -> bool {
        account.spent = account.spent.saturating_sub(QUANTUM);
        self.left = (QUANTUM as i32 - account.spent.min(READ) as i32).max(0);
        self.lent = self.left;
        self.left > 0
    }

    /// True while that is being used.
    #[inline]
    pub(super) fn is_lent(&self) -> bool {
        self.lent != 0
    }

    /// Something is done for the session that is read.
    #[inline]
    pub(super) fn charge(&mut self, work: u32) {
        self.left = self.left.wrapping_sub_unsigned(work);
    }

    /// A frame of so many bytes is read for it.
    #[inline]
    pub(super) fn charge_frame(&mut self, len: usize) {
        self.charge(FRAME + (len / BYTES) as u32);
    }

    /// True if no more is to be done for it.
    #[inline]
    pub(super) fn is_used_up(&self) -> bool {
        self.left <= 0
    }

    /// It was read at once, or `again`.
    pub(super) fn settle(&mut self, account: &mut Account, again: bool) {
        let work = self.lent.wrapping_sub(self.left).unsigned_abs();
        account.spent = account.spent.saturating_add(work);
        let sum = if again { &mut self.spent } else { &mut self.read };
        *sum = sum.saturating_add(work);
        (self.left, self.lent) = (0, 0);
    }

    // --- everything else ---

    /// So many bytes of datagrams are sent in one go.
    #[inline]
    pub(super) fn send(&mut self, bytes: usize) {
        self.spent += BATCH + (bytes / 1024) as u32;
    }

    /// Kept values were looked through.
    pub(super) fn search(&mut self) {
        self.spent += SEARCH;
    }

    /// A handshake is opened: that alone takes as long as all else in a turn, so there is one in each.
    #[cfg(feature = "sealed")]
    pub(super) fn open(&mut self) {
        self.has_opened = true;
    }

    /// True if one was.
    #[cfg(feature = "sealed")]
    pub(super) fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// A session is opened for somebody who is not known.
    pub(super) fn welcome(&mut self) {
        self.newcomers += 1;
    }

    /// True if another one may be.
    pub(super) fn welcomes(&self) -> bool {
        self.newcomers < NEWCOMERS
    }

    /// True if those who were put off come before others from here on.
    pub(super) fn is_half_over(&self) -> bool {
        self.spent >= TURN / 2
    }

    /// True if it is time to look at the network.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.spent >= TURN
    }

    /// Begins the next one.
    pub(super) fn end(&mut self) {
        *self = Self { number: self.number.wrapping_add(1), ..Self::default() };
    }
}
