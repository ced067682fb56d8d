//! UDP by embassy-net to a server that has a name (feature `dns`).

use core::fmt;

use embassy_net::dns::DnsQueryType;
use embassy_net::udp::{BindError, UdpSocket};
use embassy_net::{IpAddress, IpEndpoint, Stack, dns};
use embassy_time::{Duration, Timer, with_timeout};
use heapless::Vec;

use crate::Transport;
use crate::net::{Error, Udp};

/// How long the client may wait for a name server before it tries the addresses again that it knows.
const LOOK_UP: Duration = Duration::from_secs(3);
/// The wait between two questions for a name that was never found.
const PAUSE: Duration = Duration::from_secs(1);
/// Addresses of a name that are kept.
const ADDRESSES: usize = 4;

/// A socket of embassy-net and the server's name, which is looked up once to begin with, and again whenever a connection is
/// lost and no address is left that was not tried: the name may have moved. Where no name server answers then, what is
/// known is tried again.
///
/// The stack needs a socket more in its `StackResources`, for the questions, and DNS servers, which DHCP brings along.
/// How many addresses it takes of an answer is set by the features `dns-max-result-count-N` of smoltcp, one by default.
pub struct NamedUdp<'s> {
    udp: Udp<'s>,
    stack: Stack<'s>,
    name: &'s str,
    port: u16,
    addresses: Vec<IpAddress, ADDRESSES>,
    /// How many of them were tried since they were looked up.
    tried: usize,
}

impl fmt::Debug for NamedUdp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port, addresses, .. } = self;
        f.debug_struct("NamedUdp")
            .field("name", name)
            .field("port", port)
            .field("addresses", addresses)
            .finish_non_exhaustive()
    }
}

/// Why there is no transport to a named server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum NameError {
    /// No host can have this name.
    Name,
    /// The socket was not open, and the stack has no port for it.
    Bind(BindError),
}

impl<'s> NamedUdp<'s> {
    /// A transport to port `port` of the server that is called `name`, which may be an address as well. Waits until the stack
    /// has an address of its own and the name is found, however long that takes. A `socket` that is not open yet is bound
    /// to a port of the stack's choice. Cancel-safe, but for the socket.
    ///
    /// # Errors
    /// See [`NameError`].
    pub async fn new(stack: Stack<'s>, socket: UdpSocket<'s>, name: &'s str, port: u16) -> Result<Self, NameError> {
        let udp = Udp::new(socket, (IpAddress::v4(0, 0, 0, 0), port)).map_err(NameError::Bind)?;
        let mut named = Self { udp, stack, name, port, addresses: Vec::new(), tried: 0 };
        stack.wait_config_up().await;
        while let Err(error) = named.look_up().await {
            if matches!(error, dns::Error::InvalidName | dns::Error::NameTooLong) {
                return Err(NameError::Name);
            }
            Timer::after(PAUSE).await;
        }
        named.turn();
        Ok(named)
    }

    /// The server's address that is used, or was last tried.
    pub fn server(&self) -> IpEndpoint {
        self.udp.server()
    }

    /// Asks what the name stands for; what is known stays if there is no answer.
    async fn look_up(&mut self) -> Result<(), dns::Error> {
        let Self { stack, name, .. } = self;
        let answer = with_timeout(LOOK_UP, async {
            // A stack that speaks IPv4 only has no use for the others.
            match stack.dns_query(name, DnsQueryType::A).await {
                Err(dns::Error::Failed) => stack.dns_query(name, DnsQueryType::Aaaa).await,
                answer => answer,
            }
        });
        let found = answer.await.unwrap_or(Err(dns::Error::Failed))?;
        if found.is_empty() {
            return Err(dns::Error::Failed);
        }
        self.addresses = found.iter().copied().take(ADDRESSES).collect();
        self.tried = 0;
        Ok(())
    }

    /// On to the next address.
    fn turn(&mut self) {
        if let Some(address) = self.addresses.get(self.tried) {
            self.udp.set_server((*address, self.port));
        }
        self.tried += 1;
    }
}

impl Transport for NamedUdp<'_> {
    type Error = Error;

    fn send(&mut self, datagram: &[u8]) -> impl Future<Output = Result<(), Error>> {
        self.udp.send(datagram)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Error>> {
        self.udp.receive(buffer)
    }

    fn is_too_long(error: &Error) -> bool {
        Udp::is_too_long(error)
    }

    async fn renew(&mut self) -> Result<(), Error> {
        if self.tried >= self.addresses.len() && self.look_up().await.is_err() {
            self.tried = 0;
        }
        self.turn();
        self.udp.renew().await
    }
}
