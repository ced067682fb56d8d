//! What a message carries.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | publisher, u16 big-endian |
//! | 2..8 | number of the message, from 0 on, 48 bits big-endian |
//! | 8..16 | when it was due, u64 big-endian, nanoseconds of the [`Clock`](super::clock::Clock); 0: not timed |
//! | 16..20 | which run the publisher belongs to, u32 big-endian, random; 0: not told |
//! | 20.. | filler |
//!
//! A message that is too short for a field goes without it.

/// Bytes of a message that can be numbered.
pub(super) const NUMBERED: usize = 8;
/// Bytes of a message that can be timed.
pub(super) const TIMED: usize = 16;

/// Bytes of a message that says which run it belongs to.
pub(super) const RUN: usize = 20;

/// The sequence of a publisher's message.
pub(super) fn sequence(publisher: u16, number: u64) -> u64 {
    u64::from(publisher) << 48 | number & NUMBER
}

/// The publisher and the number in a sequence.
pub(super) fn split(sequence: u64) -> (u16, u64) {
    ((sequence >> 48) as u16, sequence & NUMBER)
}

const NUMBER: u64 = (1 << 48) - 1;

/// Writes the run, which is the same for all messages of a publisher, where there is room.
pub(super) fn write_run(payload: &mut [u8], run: u32) {
    if let Some(place) = payload.get_mut(TIMED..RUN) {
        place.copy_from_slice(&run.to_be_bytes());
    }
}

/// The run; 0 if it is not told.
pub(super) fn run(payload: &[u8]) -> u32 {
    payload.get(TIMED..).and_then(|rest| rest.first_chunk()).map_or(0, |run| u32::from_be_bytes(*run))
}

/// Writes what there is room for.
pub(super) fn write(payload: &mut [u8], sequence: u64, due: u64) {
    if let Some((head, rest)) = payload.split_first_chunk_mut::<NUMBERED>() {
        *head = sequence.to_be_bytes();
        if let Some(time) = rest.first_chunk_mut() {
            *time = due.to_be_bytes();
        }
    }
}

/// The sequence, and when the message was due.
pub(super) fn read(payload: &[u8]) -> (Option<u64>, Option<u64>) {
    let Some((head, rest)) = payload.split_first_chunk::<NUMBERED>() else { return (None, None) };
    let due = rest.first_chunk().map(|time| u64::from_be_bytes(*time)).filter(|due| *due != 0);
    (Some(u64::from_be_bytes(*head)), due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut payload = [0; 20];
        write(&mut payload, sequence(3, 70_000), 99);
        let (found, due) = read(&payload);
        assert_eq!((found.map(split), due), (Some((3, 70_000)), Some(99)));
    }

    #[test]
    fn short_messages_carry_less() {
        let mut payload = [0; 15];
        write(&mut payload, sequence(3, 4), 99);
        assert_eq!(read(&payload), (Some(sequence(3, 4)), None));
        write(&mut payload[..7], 5, 6);
        assert_eq!(read(&payload[..7]), (None, None));
        assert_eq!(read(&[]), (None, None));
    }

    #[test]
    fn the_run_stays_where_there_is_room_for_it() {
        let mut payload = [0; 20];
        write_run(&mut payload, 0xdead_beef);
        write(&mut payload, sequence(3, 4), 5);
        assert_eq!((run(&payload), read(&payload)), (0xdead_beef, (Some(sequence(3, 4)), Some(5))));
        write_run(&mut payload[..19], 7);
        assert_eq!((run(&payload), run(&payload[..19])), (0xdead_beef, 0));
    }

    #[test]
    fn a_time_of_zero_is_none() {
        assert_eq!(read(&[0; 16]), (Some(0), None));
    }
}
