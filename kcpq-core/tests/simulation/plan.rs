//! What happens in a simulation: everything in it follows from its seed, and parts of it can be left out.

use std::fmt;

use fastrand::Rng;
use kcpq_core::time::Duration;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident $name:literal,)*) => {
        /// A kind of fault, or of work; each is part of a simulation or not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)*];

            /// As it is called on a command line.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// Datagrams are lost, each by itself.
    Loss "loss",
    /// Datagrams are lost in runs.
    Bursts "bursts",
    /// Datagrams arrive twice.
    Duplicate "duplicate",
    /// Datagrams of sealed sessions arrive with a flipped bit; others are protected by UDP's checksum alone, which is to say
    /// that they are lost.
    Corrupt "corrupt",
    /// Datagrams overtake each other.
    Jitter "jitter",
    /// Paths get narrower, and wide again.
    Narrow "narrow",
    /// Paths carry shorter datagrams than before.
    Mtu "mtu",
    /// Proxies cut long datagrams off.
    Cut "cut",
    /// Nothing passes, in one direction or both.
    Partition "partition",
    /// A NAT gives a client another port.
    Rebind "rebind",
    /// A client comes from another host.
    Roam "roam",
    /// A client's process ends without a word and is started again.
    ClientCrash "client-crash",
    /// A client closes and is started again.
    ClientClose "client-close",
    /// A client is told to connect anew.
    Reconnect "reconnect",
    /// The server ends without a word and is started again.
    ServerCrash "server-crash",
    /// The server stops as it should and is started again.
    ServerStop "server-stop",
    /// A new server knows who had sessions and which values were kept.
    Register "register",
    /// A client's process stands still.
    ClientSleep "client-sleep",
    /// The server's process stands still.
    ServerSleep "server-sleep",
    /// A client's clock jumps forward.
    ClientJump "client-jump",
    /// The server's clock jumps forward.
    ServerJump "server-jump",
    /// A subscriber does not read what has come.
    Stuck "stuck",
    /// Queues at the server are short: those of sessions.
    ShortQueues "short-queues",
    /// Memory at the server is short: that of all sessions together.
    LittleMemory "little-memory",
    /// Who may do what changes.
    Rules "rules",
    /// The operator ends sessions.
    Kick "kick",
    /// Clients without an allocator.
    Lent "lent",
    /// Clients in sealed sessions.
    Sealed "sealed",
    /// Clients of the original.
    Original "original",
    /// Several shards.
    Shards "shards",
    /// Large messages.
    Large "large",
    /// Messages that are worth something for a while only.
    Ttl "ttl",
    /// Subscriptions to the latest message only.
    Latest "latest",
    /// Last values.
    Retain "retain",
    /// Messages whose publishers want to know.
    Confirm "confirm",
    /// Requests and answers.
    Request "request",
    /// Queue groups.
    Group "group",
    /// Messages with headers.
    Headers "headers",
    /// Subscriptions come and go.
    Churn "churn",
    /// Many messages at a time.
    Flood "flood",
    /// State of which only the latest counts, in lanes.
    State "state",
    /// Far more messages at a time than a server has time for in one turn.
    Greedy "greedy",
}

/// Some kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u64);

impl Kinds {
    pub(crate) fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u64 != 0
    }

    pub(crate) fn set(&mut self, kind: Kind, there: bool) {
        self.0 = self.0 & !(1 << kind as u64) | u64::from(there) << kind as u64;
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(move |kind| self.has(*kind))
    }
}

/// A simulation.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) kinds: Kinds,
    /// How many clients there are.
    pub(crate) clients: usize,
    /// Those that never start.
    pub(crate) absent: Vec<usize>,
    pub(crate) shards: usize,
    /// For how long things go wrong.
    pub(crate) span: Duration,
    /// Everything that happens is told.
    pub(crate) traced: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x706c_616e);
        let mut kinds = Kinds::default();
        // Few faults let the others show what they do alone.
        let share = [0.1, 0.25, 0.5][rng.usize(..3)];
        // What came later decides for itself, so that what others do in a simulation stays as it was.
        kinds.set(Kind::State, Rng::with_seed(seed ^ 0x7374_6174).bool());
        kinds.set(Kind::Greedy, Rng::with_seed(seed ^ 0x6772_6565).u8(..4) == 0);
        for kind in Kind::ALL.iter().filter(|kind| **kind < Kind::State) {
            let share = if *kind >= Kind::Lent { 0.5 } else { share };
            kinds.set(*kind, rng.f64() < share);
        }
        let crowd = rng.u8(..20) == 0;
        Self {
            seed,
            kinds,
            clients: if crowd { rng.usize(20..40) } else { rng.usize(2..9) },
            absent: Vec::new(),
            shards: if kinds.has(Kind::Shards) { rng.usize(2..5) } else { 1 },
            span: Duration::from_millis(rng.u64(1_000..20_000)),
            traced: false,
        }
    }

    /// A source of random numbers for one purpose: what it gives does not depend on what else is part of the simulation.
    pub(crate) fn rng(&self, purpose: u64) -> Rng {
        Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// The same plan with one thing less each, the most first.
    pub(crate) fn smaller(&self) -> impl Iterator<Item = Self> {
        let clients = (0..self.clients).filter(|client| !self.absent.contains(client)).map(|client| {
            let mut plan = self.clone();
            plan.absent.push(client);
            plan
        });
        let kinds = self.kinds.iter().map(|kind| {
            let mut plan = self.clone();
            plan.kinds.set(kind, false);
            plan.shards = if kind == Kind::Shards { 1 } else { plan.shards };
            plan
        });
        let span = self.span.div(2);
        let shorter = (span >= Duration::from_millis(200)).then(|| Self { span, ..self.clone() });
        kinds.chain(shorter).chain(clients)
    }

    /// Leaves out what a command line says: kinds, clients as `client3`, and how long as `800ms`.
    pub(crate) fn leave_out(&mut self, text: &str) {
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some(client) = word.strip_prefix("client").and_then(|number| number.parse().ok()) {
                self.absent.push(client);
            } else if let Some(millis) = word.strip_suffix("ms").and_then(|number| number.parse().ok()) {
                self.span = Duration::from_millis(millis);
            } else {
                let kind = Kind::ALL.iter().find(|kind| kind.name() == word);
                let kind = kind.unwrap_or_else(|| panic!("'{word}' is no kind of fault or work, client, or time"));
                self.kinds.set(*kind, false);
                self.shards = if *kind == Kind::Shards { 1 } else { self.shards };
            }
        }
    }

    /// What [`leave_out`](Self::leave_out) takes to make this plan of that of its seed.
    pub(crate) fn left_out(&self) -> String {
        let whole = Self::of(self.seed);
        let mut words: Vec<String> =
            whole.kinds.iter().filter(|kind| !self.kinds.has(*kind)).map(|kind| kind.name().into()).collect();
        words.extend(self.absent.iter().map(|client| format!("client{client}")));
        if self.span != whole.span {
            words.push(format!("{}ms", self.span.as_millis()));
        }
        words.join(",")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(Kind::name).collect();
        let (clients, shards) = (self.clients - self.absent.len(), self.shards);
        write!(f, "{clients} clients, {shards} shards, {}, with {}", self.span, kinds.join(" "))
    }
}

#[test]
fn what_is_left_out_makes_the_same_plan_again() {
    let mut plan = Plan::of(7);
    for _ in 0..5 {
        let smaller = plan.smaller().last().unwrap();
        plan = smaller.smaller().next().unwrap();
    }
    let mut again = Plan::of(7);
    again.leave_out(&plan.left_out());
    assert!(again.kinds == plan.kinds && again.absent == plan.absent && again.shards == plan.shards);
}
