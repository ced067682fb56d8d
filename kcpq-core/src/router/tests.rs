use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use fastrand::Rng;

use super::*;
use crate::subject::Limits;

const LIMITS: Limits = Limits::DEFAULT;

fn pattern(text: &str) -> Pattern<'_> {
    Pattern::new(text, &LIMITS).unwrap()
}

fn routed(router: &mut Router, subject: &str) -> Vec<u32> {
    let mut members = Vec::new();
    router.route(Subject::new(subject, &LIMITS).unwrap(), |member| members.push(member));
    members.sort_unstable();
    members
}

#[test]
fn every_kind_of_pattern_is_found() {
    let mut router = Router::new(1);
    for (member, text) in ["a.b.c", "a.*.c", "a.>", ">", "*.b.*", "*", "a.b.>", "a.b.c.d"].into_iter().enumerate() {
        assert!(router.subscribe(pattern(text), member as u32));
    }
    assert_eq!(routed(&mut router, "a.b.c"), [0, 1, 2, 3, 4, 6]);
    assert_eq!(routed(&mut router, "a.b"), [2, 3]);
    assert_eq!(routed(&mut router, "a"), [3, 5]);
    assert_eq!(routed(&mut router, "x.b.y"), [3, 4]);
    assert_eq!(routed(&mut router, "a.b.c.d"), [2, 3, 6, 7]);
    assert_eq!((router.patterns(), router.subscriptions()), (8, 8));
}

#[test]
fn a_member_is_told_once_however_many_of_its_patterns_match() {
    let mut router = Router::new(1);
    for text in ["a.b", "a.*", "a.>", ">"] {
        assert!(router.subscribe(pattern(text), 7));
        assert!(!router.subscribe(pattern(text), 7), "it was there already");
    }
    let mut told = 0;
    router.route(Subject::new("a.b", &LIMITS).unwrap(), |member| {
        assert_eq!(member, 7);
        told += 1;
    });
    assert_eq!((told, router.subscriptions()), (1, 4));
}

#[test]
fn any_sequence_gives_what_a_plain_list_gives() {
    for seed in 0..20 {
        let mut rng = Rng::with_seed(seed);
        let mut router = Router::new(seed);
        let mut model: BTreeSet<(String, u32)> = BTreeSet::new();
        let text = |rng: &mut Rng, wild: bool| {
            let count = rng.usize(1..5);
            let mut tokens: Vec<&str> =
                (0..count).map(|_| ["a", "b", "c", "dd", "*"][rng.usize(..4 + usize::from(wild))]).collect();
            if wild && rng.u8(..4) == 0 {
                tokens.push(">");
            }
            tokens.join(".")
        };
        for _ in 0..3_000 {
            let member = rng.u32(..20);
            match rng.u8(..3) {
                0 => {
                    let text = text(&mut rng, true);
                    assert_eq!(router.subscribe(pattern(&text), member), model.insert((text.clone(), member)));
                }
                1 => {
                    let text = text(&mut rng, true);
                    let was = model.remove(&(text.clone(), member));
                    assert_eq!(router.unsubscribe(pattern(&text), member), was);
                }
                _ => {
                    let text = text(&mut rng, false);
                    let subject = Subject::new(&text, &LIMITS).unwrap();
                    let expected: BTreeSet<u32> =
                        model.iter().filter(|(text, _)| pattern(text).matches(subject)).map(|(_, who)| *who).collect();
                    assert_eq!(routed(&mut router, &text), expected.into_iter().collect::<Vec<_>>(), "{text}");
                }
            }
            assert_eq!(router.subscriptions(), model.len());
        }
        let patterns: BTreeSet<&String> = model.iter().map(|(text, _)| text).collect();
        assert_eq!(router.patterns(), patterns.len());
        for (text, member) in &model {
            assert!(router.unsubscribe(pattern(text), *member));
        }
        assert_eq!((router.patterns(), router.nodes(), router.edges.len(), router.literal.len()), (0, 1, 0, 0));
    }
}

#[test]
fn a_pattern_with_many_members_lets_each_go() {
    let mut router = Router::new(3);
    for member in 0..10_000 {
        router.subscribe(pattern("a.*"), member);
    }
    assert_eq!(routed(&mut router, "a.b").len(), 10_000);
    for member in (0..10_000).rev() {
        assert!(router.unsubscribe(pattern("a.*"), member));
        assert!(!router.unsubscribe(pattern("a.*"), member));
    }
    assert_eq!((router.patterns(), router.nodes()), (0, 1));
}
