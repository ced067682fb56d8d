//! The kernel's own answer: sock_diag(7), a question over netlink(7).
//!
//! For one port it goes through its sockets once. Its table as a text it would have to begin again for each page of it:
//! that takes tens of milliseconds where ten thousand sockets are open.

use std::net::SocketAddr;

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, netlink};

use super::ReceiveQueues;

/// What netlink messages begin with: length, type, flags, number, port.
const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP: all that match.
const DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Of struct inet_diag_req_v2 the length, and of struct inet_diag_msg that, and where its port, address and queue are.
const QUESTION: usize = 56;
const ANSWER: usize = 72;
const PORT: usize = 4;
const ADDRESS: usize = 8;
const WAITING: usize = 56;
/// The attribute with the memory of a socket, as numbers of 32 bits, and which of them counts what was dropped.
const INET_DIAG_SKMEMINFO: u16 = 7;
const SK_MEMINFO_DROPS: usize = 8;
/// Room for what one call gives.
const BUFFER: usize = 32 << 10;

/// Of the sockets bound to `addr`; `None` if there are none, or the kernel does not answer.
pub(super) fn receive_queues(addr: SocketAddr) -> Option<ReceiveQueues> {
    let socket =
        net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))
            .ok()?;
    net::send(&socket, &question(addr), SendFlags::empty()).ok()?;
    let (mut buffer, mut found) = (vec![0; BUFFER], None);
    // Ends: what is said there comes from the kernel, which ends with DONE or has no more to say.
    loop {
        let (len, _) = net::recv(&socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT).ok()?;
        let mut rest = buffer.get(..len).filter(|said| !said.is_empty())?;
        while let Some((kind, message, behind)) = next_message(rest) {
            match kind {
                NLMSG_DONE => return found,
                NLMSG_ERROR => return None,
                _ => {
                    if let Some(queues) = answer(message, addr) {
                        found.get_or_insert_with(ReceiveQueues::default).add(queues);
                    }
                }
            }
            rest = behind;
        }
    }
}

/// Which sockets there are on the port of `addr`, in all states, and their memory.
fn question(addr: SocketAddr) -> Vec<u8> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut question = Vec::with_capacity(HEADER + QUESTION);
    question.extend(((HEADER + QUESTION) as u32).to_ne_bytes());
    question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    question.extend(DUMP.to_ne_bytes());
    question.extend([0; 8]);
    question.extend([family.as_raw() as u8, ipproto::UDP.as_raw().get() as u8, 1 << (INET_DIAG_SKMEMINFO - 1), 0]);
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(addr.port().to_be_bytes());
    // Any port and address of the other side, any interface and cookie.
    question.resize(HEADER + QUESTION, 0);
    question
}

/// The type of the first message, what it says, and what is behind it.
fn next_message(said: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, _) = said.split_first_chunk::<HEADER>()?;
    let [a, b, c, d, kind @ ..] = head;
    let len = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
    let kind = u16::from_ne_bytes([kind[0], kind[1]]);
    Some((kind, said.get(HEADER..len)?, said.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// What an answer says of a socket, if that one is bound to `addr`.
fn answer(message: &[u8], addr: SocketAddr) -> Option<ReceiveQueues> {
    let (socket, mut attributes) = message.split_at_checked(ANSWER)?;
    let is_at = |octets: &[u8]| socket.get(ADDRESS..)?.starts_with(octets).then_some(());
    match addr {
        SocketAddr::V4(addr) => is_at(&addr.ip().octets())?,
        SocketAddr::V6(addr) => is_at(&addr.ip().octets())?,
    }
    if socket.get(PORT..)?.first_chunk() != Some(&addr.port().to_be_bytes()) {
        return None;
    }
    let mut queues = ReceiveQueues { bytes: number(socket, WAITING)?.into(), dropped: 0 };
    while let Some([a, b, kind @ ..]) = attributes.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([*a, *b]));
        if u16::from_ne_bytes(*kind) == INET_DIAG_SKMEMINFO {
            queues.dropped = number(attributes.get(4..len)?, SK_MEMINFO_DROPS * 4)?.into();
        }
        attributes = attributes.get(len.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    Some(queues)
}

/// The number of 32 bits at `at`.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_says_nothing_and_ends() {
        let addr = "127.0.0.1:4000".parse().unwrap();
        let mut message = question(addr);
        assert_eq!(message.len(), HEADER + QUESTION);
        let (kind, said, behind) = next_message(&message).unwrap();
        assert_eq!((kind, said.len(), behind.len()), (SOCK_DIAG_BY_FAMILY, QUESTION, 0));
        assert_eq!(answer(said, addr), None);
        message.truncate(HEADER + QUESTION - 1);
        assert!(next_message(&message).is_none());
        let mut socket = [0; ANSWER + 4];
        socket[PORT..][..2].copy_from_slice(&4000_u16.to_be_bytes());
        socket[ADDRESS..][..4].copy_from_slice(&[127, 0, 0, 1]);
        socket[WAITING..][..4].copy_from_slice(&7_u32.to_ne_bytes());
        // Behind it an attribute of no length.
        assert_eq!(answer(&socket, addr), Some(ReceiveQueues { bytes: 7, dropped: 0 }));
        assert_eq!(answer(&socket, "127.0.0.2:4000".parse().unwrap()), None);
        assert_eq!(answer(&socket, "127.0.0.1:4001".parse().unwrap()), None);
    }
}
