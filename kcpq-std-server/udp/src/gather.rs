//! One call that sends datagrams from where their parts lie: `sendmsg` with a vector, and `UDP_SEGMENT` (Linux).

use std::io::{self, IoSlice};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use crate::path::Path;

pub(crate) const GATHERS: bool = true;

/// Sends `slices` one behind the other, as datagrams of `segment` bytes of which the last may be shorter.
///
/// # Errors
/// The system's. A system or a device without segmentation offload has one for several datagrams.
pub(crate) fn send(
    socket: &UdpSocket,
    Path { remote, local }: Path,
    slices: &[IoSlice<'_>],
    segment: Option<usize>,
) -> io::Result<()> {
    let len: usize = slices.iter().map(|slice| slice.len()).sum();
    let segment = match segment.filter(|segment| *segment < len).map(u16::try_from) {
        None => None,
        Some(Ok(segment)) => Some(segment),
        Some(Err(_)) => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let (v4, v6) = match local {
        Some(IpAddr::V4(addr)) => {
            let ipi_spec_dst = in_addr { s_addr: u32::from_ne_bytes(addr.octets()) };
            (Some(in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } }), None)
        }
        Some(IpAddr::V6(addr)) => {
            (None, Some(in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: in6_addr { s6_addr: addr.octets() } }))
        }
        None => (None, None),
    };
    let control: Vec<ControlMessage<'_>> = [
        segment.as_ref().map(ControlMessage::UdpGsoSegments),
        v4.as_ref().map(ControlMessage::Ipv4PacketInfo),
        v6.as_ref().map(ControlMessage::Ipv6PacketInfo),
    ]
    .into_iter()
    .flatten()
    .collect();
    let to = SockaddrStorage::from(remote);
    loop {
        match sendmsg(socket.as_raw_fd(), slices, &control, MsgFlags::empty(), Some(&to)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
