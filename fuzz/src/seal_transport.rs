//! Sealed datagrams between both ends of a session, lost, late, doubled, changed and made up, while keys are replaced: what is
//! opened was sealed, once, and both ends live on.

use std::collections::HashMap;

use kcpq_core::seal::{
    Cipher, Credentials, HEADER, Initiator, REKEY_AFTER, Responder, SealError, SharedSecret, TAG, Transport,
    Unconfirmed, header,
};
use kcpq_core::{Duration, Instant};

use crate::Seed;

/// Each two bytes are a step: what is done, and with how much.
pub fn run(data: &[u8]) {
    let [cipher, rest @ ..] = data else { return };
    let mut talk = Talk::new(if cipher % 2 == 0 { Cipher::ChaChaPoly } else { Cipher::AesGcm });
    let (steps, _) = rest.as_chunks::<2>();
    for [action, amount] in steps {
        let from = usize::from(action & 1);
        match action >> 1 & 7 {
            0 | 1 => talk.seal(from, u64::from(*amount), usize::from(*amount)),
            2 => talk.seal(from, u64::from(*amount) << 13, 0),
            3 => talk.deliver(from, usize::from(*amount), true),
            4 => talk.deliver(from, usize::from(*amount), false),
            5 => talk.damage(from, usize::from(*amount), *action >> 4 | 1),
            6 => talk.now += Duration::from_secs(u64::from(*amount)),
            _ => talk.noise(from, rest),
        }
    }
    talk.finish();
}

struct Talk {
    now: Instant,
    ends: [Transport; 2],
    /// The next number of each end.
    numbers: [u64; 2],
    /// The highest number of each end that the other has opened.
    opened: [u64; 2],
    /// What each end has sealed and the other has not opened.
    sealed: [HashMap<u64, Vec<u8>>; 2],
    flying: [Vec<Vec<u8>>; 2],
}

impl Talk {
    fn new(cipher: Cipher) -> Self {
        let now = Instant::from_millis(1);
        let secret = SharedSecret::from_bytes(&[3; 32]);
        let responder = Responder::new(None, Some(secret.clone()));
        let credentials = Credentials::Shared { secret: &secret };
        let mut initiator = Initiator::new(7, credentials, cipher, &[4; 32], b"").expect("short, known");
        let mut initial = initiator.datagram().to_vec();
        let pending = responder.open(responder.look(&mut initial).expect("true")).expect("true");
        let mut unconfirmed: Unconfirmed = pending.reply(&[5; 32], b"").expect("short");
        let mut reply = unconfirmed.datagram().to_vec();
        let (mut client, _): (Transport, _) = initiator.handle_reply(&mut reply).expect("true");
        let (mut head, mut body) = (header(9, 0, 0), [0; TAG]);
        client.seal(now, 0, &mut head, &mut body, 0).expect("the first");
        let (server, _) = unconfirmed.confirm(now, &head, &mut body).expect("true");
        Self {
            now,
            ends: [client, server],
            numbers: [1, 0],
            opened: [0, 0],
            sealed: Default::default(),
            flying: Default::default(),
        }
    }

    fn seal(&mut self, from: usize, gap: u64, len: usize) {
        let number = self.numbers[from] + gap;
        // Further ahead than 24 bits tell: a peer that sends so much unheard has long been given up.
        if number - self.opened[from] >= 1 << 22 {
            return;
        }
        let text = vec![number as u8; len];
        let (mut head, mut body) = (header(9, 0, 0), [&text[..], &[0; TAG]].concat());
        match self.ends[from].seal(self.now, number, &mut head, &mut body, len) {
            Ok(sealed) => assert_eq!(sealed, len + TAG),
            // The other end is heard, and does not hear.
            Err(why) => return assert_eq!(why, SealError::Exhausted),
        }
        self.numbers[from] = number + 1;
        self.flying[from].push([&head[..], &body].concat());
        assert!(self.sealed[from].insert(number, text).is_none());
    }

    fn deliver(&mut self, from: usize, which: usize, remove: bool) {
        if self.flying[from].is_empty() {
            return;
        }
        let at = which % self.flying[from].len();
        let datagram = if remove { self.flying[from].remove(at) } else { self.flying[from][at].clone() };
        self.open(from, datagram);
    }

    fn damage(&mut self, from: usize, which: usize, bits: u8) {
        let Some(datagram) = self.flying[from].last() else { return };
        let mut datagram = datagram.clone();
        let at = which % datagram.len();
        datagram[at] ^= bits;
        let before = (self.ends[1 - from].generations(), self.sealed[from].len());
        self.open(from, datagram);
        assert_eq!((self.ends[1 - from].generations(), self.sealed[from].len()), before, "forged");
    }

    fn noise(&mut self, from: usize, bytes: &[u8]) {
        let before = self.sealed[from].len();
        self.open(from, bytes.to_vec());
        assert_eq!(self.sealed[from].len(), before, "made from nothing");
    }

    fn open(&mut self, from: usize, mut datagram: Vec<u8>) -> bool {
        let Some((head, body)) = datagram.split_first_chunk_mut::<HEADER>() else { return false };
        let Ok(opened) = self.ends[1 - from].open(self.now, &*head, body) else { return false };
        let text = self.sealed[from].remove(&opened.number);
        assert_eq!(text.as_deref(), Some(&*opened.body), "never sealed, or opened before");
        self.opened[from] = self.opened[from].max(opened.number);
        true
    }

    /// Whatever happened: what comes now is opened, both ways and twice, and no end is far ahead.
    fn finish(mut self) {
        for from in [0, 1, 0, 1] {
            let gap = self.numbers[from];
            self.seal(from, 0, 5);
            if self.numbers[from] > gap {
                let datagram = self.flying[from].pop().expect("just sealed");
                assert!(self.open(from, datagram), "an end does not hear the other any more");
            }
            let [client, server] = [0, 1].map(|end| self.ends[end].generations());
            assert!(client.0 - client.1 <= 1 && server.0 == server.1 && client.0 - server.0 <= 1);
        }
        const { assert!(REKEY_AFTER < 1 << 22) };
    }
}

/// A talk in order, one with gaps that replace keys, one with hours, and one under attack.
pub fn seeds() -> Vec<Seed> {
    let talks: [(&str, &[[u8; 2]]); 5] = [
        ("order", &[[0, 3], [6, 0], [1, 0], [7, 0], [0, 9], [6, 0], [1, 4], [7, 0]]),
        ("reordered", &[[0, 1], [0, 2], [0, 3], [6, 2], [6, 0], [8, 0], [6, 0], [6, 0]]),
        ("many", &[[4, 200], [6, 0], [5, 9], [7, 0], [4, 200], [6, 0], [5, 200], [7, 0], [4, 255], [6, 0]]),
        (
            "hours",
            &[[12, 121], [0, 1], [0, 2], [6, 1], [6, 0], [1, 1], [7, 0], [12, 255], [0, 1], [6, 0], [1, 0], [7, 0]],
        ),
        ("attack", &[[0, 20], [10, 4], [26, 9], [74, 13], [14, 0], [8, 0], [8, 0], [6, 0], [15, 0]]),
    ];
    let seed = |cipher: u8, steps: &[[u8; 2]]| [&[cipher], steps.as_flattened()].concat();
    talks
        .iter()
        .flat_map(|(name, steps)| [(format!("{name}-chacha"), seed(0, steps)), (format!("{name}-aes"), seed(1, steps))])
        .collect()
}
