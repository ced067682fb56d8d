//! Who is connected, and for how long that may last.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::{Task, Timer};

/// Connections at a time. One more takes the place of the oldest that is not listening: who opens many and says
/// nothing keeps nobody out.
pub(in super::super) const MAX_CONNECTIONS: usize = 64;
/// Those among them that listen for what is new. One more asks the first of them to leave.
const MAX_LISTENERS: usize = 16;
/// How long a connection may last, and how long one that listens may take for what it is told. The longest document is
/// some hundred kilobytes.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// All connections, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    connections: RefCell<VecDeque<(Rc<Lease>, Task<()>)>>,
}

/// For how long a connection may go on.
#[derive(Debug)]
pub(crate) struct Lease {
    until: Cell<Instant>,
    part: Cell<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// One answer, and that is it.
    Asks,
    Listens,
    /// It listened, and another one has its place.
    Leaves,
    /// It is a client of the server's, which sees to it.
    Stays,
}

impl Crowd {
    /// Begins a connection, whose task `talk` makes.
    pub(crate) fn admit(&self, talk: impl FnOnce(Rc<Lease>) -> Task<()>) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|(_, task)| !task.is_finished());
        let passing = connections.iter().filter(|(lease, _)| lease.part.get() != Part::Stays).count();
        if passing >= MAX_CONNECTIONS {
            let asks = |lease: &Lease| !matches!(lease.part.get(), Part::Listens | Part::Stays);
            let first = |is: &dyn Fn(&Lease) -> bool| connections.iter().position(|(lease, _)| is(lease));
            let least = first(&asks).or_else(|| first(&|lease| lease.part.get() == Part::Listens));
            least.map(|index| connections.remove(index));
        }
        let lease = Rc::new(Lease { until: Cell::new(Instant::now() + CONNECTION_TIME), part: Cell::new(Part::Asks) });
        let task = talk(Rc::clone(&lease));
        connections.push_back((lease, task));
    }

    /// How many are clients of the server's.
    pub(super) fn staying(&self) -> usize {
        let connections = self.connections.borrow();
        let there = connections.iter().filter(|(_, task)| !task.is_finished());
        there.filter(|(lease, _)| lease.part.get() == Part::Stays).count()
    }

    /// Waits until the clients of the server's have gone; the others go at once.
    pub(super) async fn have_left(&self) {
        let all = self.connections.take();
        let staying = all.into_iter().filter(|(lease, _)| lease.part.get() == Part::Stays);
        for task in staying.map(|(_, task)| task).collect::<Vec<_>>() {
            task.await;
        }
    }

    /// A connection listens from now on.
    pub(super) fn listen(&self, lease: &Lease) {
        let connections = self.connections.borrow();
        let listening = || {
            let all = connections.iter().filter(|(_, task)| !task.is_finished()).map(|(lease, _)| lease);
            all.filter(|lease| lease.part.get() == Part::Listens)
        };
        if listening().count() >= MAX_LISTENERS
            && let Some(first) = listening().next()
        {
            first.part.set(Part::Leaves);
        }
        lease.part.set(Part::Listens);
    }
}

impl Lease {
    /// It has taken what it was told.
    pub(super) fn renew(&self) {
        self.until.set(Instant::now() + CONNECTION_TIME);
    }

    /// Another one has its place.
    pub(super) fn is_lost(&self) -> bool {
        self.part.get() == Part::Leaves
    }

    /// It is of no concern here any more.
    pub(super) fn stay(&self) {
        self.part.set(Part::Stays);
    }

    /// Waits until it is over.
    pub(crate) async fn end(&self) {
        while self.part.get() == Part::Stays || Instant::now() < self.until.get() {
            if self.part.get() == Part::Stays {
                std::future::pending::<()>().await;
            }
            Timer::at(self.until.get()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::LocalExecutor;
    use std::future::pending;

    fn connect(crowd: &Crowd, executor: &LocalExecutor<'_>) -> Rc<Lease> {
        let mut known = None;
        crowd.admit(|lease| {
            known = Some(lease);
            executor.spawn(pending())
        });
        known.unwrap()
    }

    #[test]
    fn listeners_keep_their_places_from_those_who_ask_and_the_first_leaves_for_one_more() {
        let (executor, crowd) = (LocalExecutor::new(), Crowd::default());
        let listeners: Vec<_> = (0..MAX_LISTENERS).map(|_| connect(&crowd, &executor)).collect();
        listeners.iter().for_each(|lease| crowd.listen(lease));
        let crowd_of =
            |crowd: &Crowd| crowd.connections.borrow().iter().map(|(lease, _)| lease.clone()).collect::<Vec<_>>();
        (0..3 * MAX_CONNECTIONS).for_each(|_| drop(connect(&crowd, &executor)));
        assert_eq!(crowd_of(&crowd).len(), MAX_CONNECTIONS);
        assert!(
            listeners
                .iter()
                .all(|lease| !lease.is_lost() && crowd_of(&crowd).iter().any(|known| Rc::ptr_eq(known, lease)))
        );
        let client = connect(&crowd, &executor);
        client.stay();
        (0..2 * MAX_CONNECTIONS).for_each(|_| drop(connect(&crowd, &executor)));
        assert_eq!((crowd_of(&crowd).len(), crowd.staying()), (MAX_CONNECTIONS + 1, 1), "it takes nobody's place");
        let newest = connect(&crowd, &executor);
        crowd.listen(&newest);
        assert!(listeners[0].is_lost() && listeners[1..].iter().all(|lease| !lease.is_lost()) && !newest.is_lost());
    }
}
