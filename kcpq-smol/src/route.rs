//! Where the server may be: the servers as the user names them, and the addresses that these names stand for.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kcpq_core::datagram::{LOCAL_DATAGRAM, PATH_DATAGRAM, USUAL_DATAGRAM};

use crate::address::Address;

/// A look-up that is under way.
pub(crate) type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Looks up the addresses of servers; the operating system does, unless a test knows better.
#[derive(Clone)]
pub(crate) struct Resolver(pub(crate) Arc<dyn Fn(Vec<Address>) -> Lookup + Send + Sync>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(|servers| Box::pin(look_up(servers))))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn look_up(&self, servers: Vec<Address>) -> Lookup {
        (self.0)(servers)
    }
}

/// The way to a server: one of several, each with one address or several.
pub(crate) struct Route {
    servers: Vec<Address>,
    addrs: Vec<SocketAddr>,
    /// Servers that the last one has said take its place: they are tried before those of the user.
    successors: Vec<Address>,
    /// Where a server answered last.
    proven: Option<SocketAddr>,
    /// Where servers were that let nobody in, or stopped: since one did let the client in, others are tried before.
    closed: Vec<SocketAddr>,
    lookup: Option<Lookup>,
    longest: Longest,
    resolver: Resolver,
}

/// How long datagrams between native peers may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Longest {
    /// As the user wants it.
    pub(crate) chosen: Option<u16>,
    /// The system cuts what is too long for the path into pieces, and cannot be kept from it.
    pub(crate) may_fragment: bool,
}

impl Route {
    /// `addrs` are those of `servers`, as far as they are known.
    pub(crate) fn new(servers: Vec<Address>, addrs: Vec<SocketAddr>, longest: Longest, resolver: Resolver) -> Self {
        let (successors, closed) = (Vec::new(), Vec::new());
        Self { servers, addrs, successors, proven: None, closed, lookup: None, longest, resolver }
    }

    /// The longest datagram that the way there may carry, in bytes of UDP payload.
    pub(crate) fn datagram(&self) -> u16 {
        match self.longest {
            Longest { chosen: Some(chosen), .. } => chosen,
            _ if self.is_local() => LOCAL_DATAGRAM,
            // It would seem that the path carries what is cut into pieces, of which each may be lost.
            Longest { may_fragment: true, .. } => USUAL_DATAGRAM,
            _ => PATH_DATAGRAM,
        }
    }

    /// True if a server may be at `addr`.
    pub(crate) fn contains(&self, addr: SocketAddr) -> bool {
        self.addrs.contains(&addr)
    }

    /// True if there is an address to try.
    pub(crate) fn is_known(&self) -> bool {
        !self.addrs.is_empty()
    }

    /// The addresses in the order in which they are to be tried: first the one where a server answered last, and last those
    /// where it was no use.
    pub(crate) fn candidates(&self) -> Vec<SocketAddr> {
        let rank = |addr: &SocketAddr| (self.closed.contains(addr), Some(*addr) != self.proven);
        let mut candidates = self.addrs.clone();
        candidates.sort_by_key(rank);
        candidates
    }

    /// The server there stops, or does not let the client in; and who takes its place, as it says. True if there is another one
    /// to be tried at once; not again and again, if that one does not answer.
    pub(crate) fn closed(&mut self, addr: SocketAddr, successors: Vec<Address>) -> bool {
        let is_news = !self.closed.contains(&addr);
        if is_news {
            self.closed.push(addr);
        }
        if !successors.is_empty() {
            let known = successors.iter().filter_map(|server| match server {
                Address::Socket(addr) => Some(*addr),
                Address::Name(_) => None,
            });
            for (index, addr) in known.enumerate() {
                self.addrs.retain(|other| *other != addr);
                self.addrs.insert(index.min(self.addrs.len()), addr);
            }
            self.successors = successors;
        }
        self.proven = self.proven.filter(|proven| *proven != addr);
        let another = self.addrs.iter().any(|addr| !self.closed.contains(addr));
        if !another {
            // It is the same everywhere.
            self.closed.clear();
        }
        is_news && another
    }

    /// True if all addresses are this machine's.
    pub(crate) fn is_local(&self) -> bool {
        self.is_known() && self.addrs.iter().all(|addr| addr.ip().to_canonical().is_loopback())
    }

    /// A server has answered at `addr`.
    pub(crate) fn answered(&mut self, addr: SocketAddr) {
        self.proven = Some(addr);
        self.closed.clear();
    }

    /// True if a server answered there last.
    pub(crate) fn is_proven(&self, addr: SocketAddr) -> bool {
        self.proven == Some(addr)
    }

    /// The servers, those first that are tried first.
    fn all(&self) -> Vec<Address> {
        self.successors.iter().chain(&self.servers).cloned().collect()
    }

    /// Begins to look the names up again, unless that is under way or there is none. True if there is something to wait for.
    pub(crate) fn look_up(&mut self) -> bool {
        let servers = self.all();
        if self.lookup.is_none() && servers.iter().any(|server| matches!(server, Address::Name(_))) {
            self.lookup = Some(self.resolver.look_up(servers));
        }
        self.lookup.is_some()
    }

    /// Takes what a look-up has found; pending if none is under way. What was known stays if it has found nothing.
    pub(crate) fn poll_looked_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(lookup) = &mut self.lookup else { return Poll::Pending };
        let Poll::Ready(found) = lookup.as_mut().poll(cx) else { return Poll::Pending };
        self.lookup = None;
        Poll::Ready(found.map(|addrs| self.addrs = addrs))
    }
}

/// The addresses of all `servers`, in their order. Names that cannot be looked up are left out.
///
/// # Errors
/// That of the first name, if there is no address at all.
async fn look_up(servers: Vec<Address>) -> io::Result<Vec<SocketAddr>> {
    let mut lookups: Vec<_> = servers.iter().map(|server| (Box::pin(server.resolve()), None)).collect();
    // All at once: a name server that does not answer for one name holds up the others no longer than it has to.
    poll_fn(|cx| {
        let mut done = true;
        for (lookup, found) in lookups.iter_mut().filter(|(_, found)| found.is_none()) {
            match lookup.as_mut().poll(cx) {
                Poll::Ready(result) => *found = Some(result),
                Poll::Pending => done = false,
            }
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let (mut addrs, mut error) = (Vec::new(), None);
    for (_, found) in lookups {
        match found {
            Some(Ok(found)) => {
                for addr in alternating(&found) {
                    if !addrs.contains(&addr) {
                        addrs.push(addr);
                    }
                }
            }
            Some(Err(why)) => error = error.or(Some(why)),
            None => {}
        }
    }
    match error {
        Some(error) if addrs.is_empty() => Err(error),
        _ => Ok(addrs),
    }
}

/// The addresses with the two families taking turns, so that one that does not work costs one attempt only (RFC 8305, 4).
fn alternating(addrs: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_first = |addr: &&SocketAddr| addrs.first().is_some_and(|first| first.is_ipv6() == addr.is_ipv6());
    let (mut first, mut other) = (addrs.iter().filter(is_first), addrs.iter().filter(|addr| !is_first(addr)));
    let mut all = Vec::with_capacity(addrs.len());
    while all.len() < addrs.len() {
        all.extend(first.next().into_iter().chain(other.next()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Longest = Longest { chosen: None, may_fragment: false };

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_families_take_turns_and_the_systems_choice_is_first() {
        let [a, b, c, d] = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "[2001:db8::3]:1"].map(addr);
        assert_eq!(alternating(&[a, b, c, d]), [a, c, b, d]);
        assert_eq!(alternating(&[c, a]), [c, a]);
        assert_eq!(alternating(&[]), []);
    }

    #[test]
    fn servers_are_tried_in_their_order_but_first_the_one_that_answered_last() {
        let [a, b, c] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(addr);
        let mut route = Route::new(Vec::new(), vec![a, b, c], LONGEST, Resolver::default());
        assert_eq!(route.candidates(), [a, b, c]);
        route.answered(c);
        assert_eq!(route.candidates(), [c, a, b]);
        // It is not there any more.
        route.addrs = vec![a, b];
        assert_eq!(route.candidates(), [a, b]);
    }

    #[test]
    fn all_servers_are_looked_up_and_names_that_are_unknown_are_left_out() {
        let [a, b] = ["192.0.2.1:1", "192.0.2.2:2"].map(addr);
        let unknown = Address::from("nowhere.invalid");
        let servers = vec![unknown.clone(), a.into(), Address::from("192.0.2.2:2"), a.into()];
        assert_eq!(smol::block_on(look_up(servers)).unwrap(), [a, b]);
        assert!(smol::block_on(look_up(vec![unknown])).is_err());
    }

    #[test]
    fn what_was_known_stays_when_a_look_up_finds_nothing() {
        let known = addr("192.0.2.1:1");
        let mut route = Route::new(vec![Address::from("nowhere.invalid")], vec![known], LONGEST, Resolver::default());
        assert!(route.look_up());
        assert!(smol::block_on(poll_fn(|cx| route.poll_looked_up(cx))).is_err());
        assert_eq!(route.candidates(), [known]);
        // An address needs no look-up.
        assert!(!Route::new(vec![known.into()], vec![known], LONGEST, Resolver::default()).look_up());
    }

    #[test]
    fn where_it_was_no_use_is_tried_last_and_successors_are_tried_first() {
        let [a, b, c, d] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"].map(addr);
        let mut route = Route::new(vec![a.into(), b.into()], vec![a, b], LONGEST, Resolver::default());
        route.answered(a);
        assert!(route.closed(a, Vec::new()));
        assert_eq!(route.candidates(), [b, a]);
        assert!(!route.closed(a, Vec::new()), "the other one does not answer: there is no hurry");
        assert_eq!(route.candidates(), [b, a]);
        assert!(!route.closed(b, Vec::new()), "it is the same everywhere");
        assert_eq!(route.candidates(), [a, b]);
        route.answered(b);
        assert!(route.closed(b, vec![c.into(), Address::from("d.example:1"), a.into()]));
        assert_eq!(route.candidates(), [c, a, b]);
        // The names are looked up before the next attempt.
        assert!(route.look_up());
        route.addrs = vec![c, d, a, b];
        assert_eq!(route.candidates(), [c, d, a, b]);
        route.answered(d);
        assert_eq!(route.candidates(), [d, c, a, b]);
    }
}
