//! Who may do what in a simulation, and an own idea of what that means.

use std::sync::Arc;

use fastrand::Rng;
use kcpq_core::access::{Access, Client, Group, Limits, Permissions, Proof, Rules};
use kcpq_core::seal::{PrivateKey, Token};

use crate::keys::Shows;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Not even be here.
    Nothing,
    Everything,
    /// Everything, but neither subscribe to secrets nor publish to `s.2`.
    Most,
    /// Only what is in `s`, requests and answers, and not too fast.
    Little,
}

/// What each may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy(Option<[May; 6]>);

impl Policy {
    /// Everybody may do everything.
    pub(crate) const OPEN: Self = Self(None);

    /// Some other one. With `everybody` nobody is kept out.
    pub(crate) fn draw(rng: &mut Rng, everybody: bool) -> Self {
        if rng.u8(..4) == 0 {
            return Self::OPEN;
        }
        let mut may = || match rng.u8(..10) {
            0 if !everybody => May::Nothing,
            1..=3 => May::Most,
            4..=5 => May::Little,
            _ => May::Everything,
        };
        let mut all: [May; 6] = std::array::from_fn(|_| may());
        // Whose key or token is not known is one of those who have none.
        for shows in [Shows::Key, Shows::Token] {
            if all[shows as usize] == May::Nothing {
                all[shows as usize] = all[Shows::Sealed as usize];
            }
        }
        // The original does not tell its program what it may not subscribe to.
        let original = &mut all[Shows::Original as usize];
        if *original != May::Nothing {
            *original = May::Everything;
        }
        Self(Some(all))
    }

    pub(crate) fn of(&self, shows: Shows) -> May {
        self.0.map_or(May::Everything, |all| all[shows as usize])
    }

    pub(crate) fn may_publish(&self, shows: Shows, subject: &str) -> bool {
        match self.of(shows) {
            May::Nothing => false,
            May::Everything => true,
            May::Most => !is_in(subject, "s.2."),
            May::Little => is_in(subject, "s.") || is_in(subject, "req.") || is_in(subject, "_INBOX."),
        }
    }

    pub(crate) fn may_receive(&self, shows: Shows, subject: &str) -> bool {
        match self.of(shows) {
            May::Nothing => false,
            May::Everything => true,
            May::Most => !is_in(subject, "secret."),
            May::Little => is_in(subject, "s.") || is_in(subject, "req.") || is_in(subject, "_INBOX."),
        }
    }

    /// The same for a server.
    pub(crate) fn access(&self) -> Option<Access> {
        let all = self.0?;
        let rules = |allow: Option<&[&str]>, deny: &[&str]| Rules::of(allow, deny);
        let group = |permissions| Group { name: "group".into(), permissions, limits: Limits::default() };
        let slow = Limits { bytes_per_second: Some(20_000), ..Limits::default() };
        let little = || rules(Some(&["s.>", "req.>", "_INBOX.>"]), &[]);
        let most = Permissions { publish: rules(None, &["s.2.>"]), subscribe: rules(None, &["secret.>"]) };
        let groups = vec![
            group(Permissions::default()),
            group(most),
            Group { limits: slow, ..group(Permissions { publish: little(), subscribe: little() }) },
        ];
        let place = |shows: Shows| match all[shows as usize] {
            May::Nothing => None,
            May::Everything => Some(0),
            May::Most => Some(1),
            May::Little => Some(2),
        };
        let proofs = [
            (Shows::Key, Proof::Key(*PrivateKey::from_bytes(&[3; 32]).public().as_bytes())),
            (Shows::Token, Proof::Token(*Token::from_bytes(&[5; 32]).hash().as_bytes())),
        ];
        let client = |(shows, proof): (Shows, Proof)| {
            Some(Client { name: Arc::from(format!("{shows:?}")), proof, group: place(shows)? })
        };
        Some(Access {
            groups,
            clients: proofs.into_iter().filter_map(client).collect(),
            anonymous: place(Shows::Nothing),
            local: None,
            // Whose key is not known is one of these.
            sealed: place(Shows::Sealed),
            shared: place(Shows::Secret),
            original: place(Shows::Original),
            original_with_key: place(Shows::Original),
        })
    }
}

fn is_in(subject: &str, prefix: &str) -> bool {
    subject.starts_with(prefix)
}

/// Whether a pattern matches a subject; another way to say it than the router's.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    fn tokens(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, subject @ ..]) => tokens(pattern, subject),
            ([a, pattern @ ..], [b, subject @ ..]) => a == b && tokens(pattern, subject),
            _ => false,
        }
    }
    let split = |text: &str| text.split('.').map(String::from).collect::<Vec<_>>();
    let (pattern, subject) = (split(pattern), split(subject));
    let (pattern, subject): (Vec<_>, Vec<_>) =
        (pattern.iter().map(|token| &**token).collect(), subject.iter().map(|token| &**token).collect());
    tokens(&pattern, &subject)
}

#[test]
fn patterns_match_as_they_should() {
    for (pattern, subject, expected) in [
        ("a.b", "a.b", true),
        ("a.*", "a.b", true),
        ("*.b", "a.b", true),
        ("a.>", "a", false),
        ("a.>", "a.b.c", true),
        (">", "a", true),
        ("a.*", "a.b.c", false),
        ("a.b", "a.c", false),
    ] {
        assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
    }
}
