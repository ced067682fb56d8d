use super::*;
use crate::time::Instant;

/// The number of the next data datagram.
fn seqid(link: &mut Link) -> u32 {
    let mut datagram = [0; header::LEN + HEADER];
    link.seal(Instant::ZERO, 0, &mut datagram);
    Header::parse(&datagram).unwrap().0.seqid
}

#[test]
fn numbers_go_on_when_the_framing_changes_in_the_middle_of_a_session() {
    let mut link = Link::new(Framing::Fec, 1400, 0);
    assert_eq!([seqid(&mut link), seqid(&mut link)], [0, 1]);
    link.set(Framing::Parity(Shards::KCPQ), 1400);
    assert_eq!([seqid(&mut link), seqid(&mut link)], [13, 14], "parity needs a whole group");
    link.set(Framing::Parity(Shards::KCPQ), 1200);
    assert_eq!([seqid(&mut link), seqid(&mut link)], [26, 27]);
    link.set(Framing::Fec, 1200);
    assert_eq!([seqid(&mut link), seqid(&mut link)], [28, 29]);
    let mut fresh = Link::new(Framing::Parity(Shards::KCPQ), 1400, 0);
    assert_eq!(seqid(&mut fresh), 0, "a session starts at 0");
}
