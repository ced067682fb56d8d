use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use fastrand::Rng;

use super::*;
use crate::subject::Limits;

const LIMITS: Limits = Limits { max_len: 4096, max_tokens: u8::MAX };

fn pattern(text: &str) -> Pattern<'_> {
    Pattern::new(text, &LIMITS).unwrap()
}

fn subject(text: &str) -> Subject<'_> {
    Subject::new(text, &LIMITS).unwrap()
}

/// The members that are told, sorted. One who is told twice is there twice.
fn routed(router: &mut Router, text: &str) -> Vec<u32> {
    let mut members = Vec::new();
    router.route(subject(text), |member| members.push(member));
    members.sort_unstable();
    members
}

#[test]
fn every_kind_of_pattern_is_found() {
    let mut router = Router::new(1);
    let patterns = ["a.b.c", "a.*.c", "a.>", ">", "*.b.*", "*", "a.b.>", "a.b.c.d", "a.b.*.>", "*.>", "a*.b"];
    for (member, text) in (0..).zip(patterns) {
        assert!(router.subscribe(pattern(text), member));
    }
    assert_eq!(routed(&mut router, "a.b.c"), [0, 1, 2, 3, 4, 6, 9]);
    assert_eq!(routed(&mut router, "a.b"), [2, 3, 9]);
    assert_eq!(routed(&mut router, "a"), [3, 5]);
    assert_eq!(routed(&mut router, "x.b.y"), [3, 4, 9]);
    assert_eq!(routed(&mut router, "a.b.c.d"), [2, 3, 6, 7, 8, 9]);
    assert_eq!(routed(&mut router, "a*.b"), [3, 9, 10]);
    assert_eq!((router.patterns(), router.subscriptions()), (11, 11));
}

#[test]
fn what_is_the_servers_own_is_matched_by_its_name_alone() {
    let mut router = Router::new(1);
    let patterns = [">", "*", "*.a", "*.>", "$KCPQ", "$KCPQ.a", "$KCPQ.*", "$KCPQ.>", "$KCPQ.*.>", "$KCPQX.>", "*.*"];
    for (member, text) in (0..).zip(patterns) {
        router.subscribe(pattern(text), member);
    }
    assert_eq!(routed(&mut router, "$KCPQ"), [4]);
    assert_eq!(routed(&mut router, "$KCPQ.a"), [5, 6, 7]);
    assert_eq!(routed(&mut router, "$KCPQ.a.b"), [7, 8]);
    assert_eq!(routed(&mut router, "$KCPQX.a"), [0, 2, 3, 9, 10], "a token like any other");
    assert_eq!(routed(&mut router, "$KCP"), [0, 1]);
    assert_eq!(router.reserved(), 5);
    for (member, text) in (0..).zip(patterns) {
        router.unsubscribe(pattern(text), member);
    }
    assert_eq!((router.reserved(), routed(&mut router, "$KCPQ.a").len()), (0, 0));
}

#[test]
fn a_member_is_told_once_however_many_of_its_patterns_match() {
    let mut router = Router::new(1);
    for text in ["a.b", "a.*", "*.b", "a.>", ">"] {
        assert!(router.subscribe(pattern(text), 7));
        assert!(!router.subscribe(pattern(text), 7), "it was there already");
    }
    assert_eq!(routed(&mut router, "a.b"), [7]);
    assert_eq!(routed(&mut router, "a.b"), [7], "and of the next message again");
    assert_eq!((router.patterns(), router.subscriptions()), (5, 5));
}

#[test]
fn what_was_never_subscribed_to_cannot_be_left() {
    let mut router = Router::new(1);
    for text in ["a", "a.*", "a.*.b", "a.>", ">", "*"] {
        assert!(!router.unsubscribe(pattern(text), 1));
    }
    router.subscribe(pattern("a.*.b"), 1);
    router.subscribe(pattern("a.b"), 1);
    for text in ["a", "a.*", "a.>", "a.*.>", "a.*.b.>", "a.*.b.*", "*"] {
        assert!(!router.unsubscribe(pattern(text), 1), "a part of a pattern is none: {text}");
    }
    assert!(!router.unsubscribe(pattern("a.*.b"), 2) && !router.unsubscribe(pattern("a.b"), 2), "another's");
    assert_eq!((router.patterns(), router.subscriptions()), (2, 2));
    assert_eq!(routed(&mut router, "a.x.b"), [1]);
}

/// Beside short tokens some around the length from which they take an allocation of their own.
fn tokens() -> Vec<String> {
    let long = [21, 22, 23, 24, 200].map(|len| "t".repeat(len));
    let short = ["a", "b", "c", "dd", "a*", ">b", "温"].map(String::from);
    short.into_iter().chain(long).collect()
}

#[test]
fn any_sequence_gives_what_a_plain_list_gives() {
    let tokens = tokens();
    for seed in 0..12 {
        let mut rng = Rng::with_seed(seed);
        let mut router = Router::new(seed);
        let mut model: BTreeSet<(String, u32)> = BTreeSet::new();
        // Few tokens, so that patterns meet each other; or all, so that the trie grows and has to shrink.
        let tokens = if seed % 2 == 0 { &tokens[..4] } else { &tokens[..] };
        let text = |rng: &mut Rng, wild: bool| {
            let mut token = || if wild && rng.u8(..3) == 0 { "*" } else { &tokens[rng.usize(..tokens.len())] };
            let mut text: Vec<&str> = core::iter::repeat_with(&mut token).take(3).collect();
            text.truncate(rng.usize(1..=3));
            if wild && rng.u8(..4) == 0 {
                text.push(">");
            }
            text.join(".")
        };
        for step in 0..4_000 {
            let leaving = step % 2_000 > 1_000;
            let member = rng.u32(..20);
            match rng.u8(..4) {
                0 | 1 if leaving && !model.is_empty() => {
                    let (text, member) = model.iter().nth(rng.usize(..model.len())).cloned().unwrap();
                    assert!(router.unsubscribe(pattern(&text), member));
                    model.remove(&(text, member));
                }
                0 | 1 => {
                    let text = text(&mut rng, true);
                    assert_eq!(router.subscribe(pattern(&text), member), model.insert((text, member)));
                }
                2 => {
                    let text = text(&mut rng, true);
                    assert_eq!(router.unsubscribe(pattern(&text), member), model.remove(&(text, member)));
                }
                _ => {
                    let text = text(&mut rng, false);
                    let subject = Subject::new(&text, &LIMITS).unwrap();
                    let matching = model.iter().filter(|(text, _)| pattern(text).matches(subject));
                    let expected: BTreeSet<u32> = matching.map(|(_, member)| *member).collect();
                    assert!(routed(&mut router, &text).into_iter().eq(expected), "seed {seed}, step {step}: {text}");
                }
            }
            assert_eq!(router.subscriptions(), model.len());
        }
        let patterns: BTreeSet<&String> = model.iter().map(|(text, _)| text).collect();
        assert_eq!(router.patterns(), patterns.len());
        for (text, member) in &model {
            assert!(router.unsubscribe(pattern(text), *member));
        }
        assert_eq!((router.patterns(), router.subscriptions(), router.trie.used()), (0, 0, 1));
        assert!(router.shapes.is_empty());
    }
}

#[test]
fn a_match_says_how_many_steps_it_took() {
    let mut router = Router::new(1);
    router.subscribe(pattern("a.*.>"), 1);
    for (text, steps) in [("x.b", 1), ("a.b", 3), ("a.b.c", 3), ("a", 2)] {
        assert_eq!(router.route_counted(subject(text), 0, |_| {}), steps, "{text}");
    }
}

#[test]
fn the_limits_of_what_a_message_costs_are_reached_exactly_and_what_leaves_is_given_back() {
    // Of 128 steps each; `literal` is no part of the shape.
    let long = |at: usize, literal: &'static str| {
        let tokens = [vec![literal; at], vec!["*"; 2], vec![literal; 127]];
        tokens.concat().join(".")
    };
    let mut router = Router::new(1);
    for at in 0..16 {
        let text = long(at, "a");
        assert_eq!(router.admits(pattern(&text), at as u32 / 2), Ok(()), "pattern {at}");
        router.subscribe(pattern(&text), at as u32 / 2);
    }
    assert_eq!(router.shapes.work(), shapes::WORK);
    let of_member = Err(TooManyShapes::OfMember { limit: shapes::WORK_OF_MEMBER });
    let of_all = Err(TooManyShapes::OfAll { limit: shapes::WORK });
    assert_eq!((router.admits(pattern("*.*"), 7), router.admits(pattern("*.*"), 8)), (of_member, of_all));
    let (first, second) = (long(0, "a"), long(0, "b"));
    assert_eq!([8, 0].map(|member| router.admits(pattern(&second), member)), [Ok(()); 2], "the shape is there");
    router.subscribe(pattern(&second), 0);
    assert!(router.unsubscribe(pattern(&first), 0));
    assert_eq!(router.admits(pattern("*.*"), 0), of_member, "one of the shape is left");
    assert!(router.unsubscribe(pattern(&second), 0));
    assert_eq!((router.admits(pattern("*.*"), 0), router.shapes.work()), (Ok(()), shapes::WORK - 128));
}

/// `a` and `*` in `tokens` places, as the bits say.
fn spelt(bits: u32, tokens: u32) -> String {
    let tokens: Vec<&str> = (0..tokens).map(|at| if bits >> at & 1 == 0 { "a" } else { "*" }).collect();
    tokens.join(".")
}

#[test]
fn whatever_is_subscribed_to_a_message_visits_few_nodes() {
    let subject = ["a"; 16].join(".");
    let mut router = Router::new(8);
    for member in 0..12 {
        let mut refused = 0;
        for bits in 0..1 << 16 {
            let text = spelt((bits + member * 5_000) & 0xffff, 16);
            match router.admits(pattern(&text), member) {
                Ok(()) => _ = router.subscribe(pattern(&text), member),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 65_000, "{refused}");
        let visited = router.trie.visited(&router.secret, Subject::new(&subject, &LIMITS).unwrap());
        let bound = if member == 0 { 600 } else { 2_500 };
        assert!(visited < bound, "{visited} nodes after {member}");
    }
    assert!(router.shapes.work() <= shapes::WORK);
    // The next one, who has nothing yet, still gets what people use.
    for text in ["a.*", "*.a", "a.*.>", ">", "a.a.a.a.a.a.*.a.a.a.>"] {
        assert_eq!(router.admits(pattern(text), 99), Ok(()), "{text}");
    }
    assert!(matches!(router.admits(pattern("b.*.b.*.b.*"), 0), Err(TooManyShapes::OfMember { limit: 256 })));
    assert!(matches!(router.admits(pattern(&spelt(0x5a5a, 17)), 99), Err(TooManyShapes::OfAll { limit: 2_048 })));
}

#[test]
fn patterns_of_one_shape_count_once_and_are_forgotten_with_the_last() {
    let mut router = Router::new(9);
    for member in 0..10 {
        for i in 0..1_000 {
            let text = alloc::format!("game.*.player.*.{i}");
            assert_eq!(router.admits(pattern(&text), member), Ok(()));
            router.subscribe(pattern(&text), member);
        }
    }
    assert_eq!(router.shapes.work(), 2, "`a.*.a.*` and `a.*.a.*.a`");
    for member in 0..10 {
        for i in 0..1_000 {
            assert!(router.unsubscribe(pattern(&alloc::format!("game.*.player.*.{i}")), member));
        }
    }
    assert!(router.shapes.is_empty());
}

#[test]
fn deep_patterns_are_not_free() {
    let mut router = Router::new(10);
    let mut admitted = 0;
    for at in 0..255 {
        let text: Vec<&str> = (0..255).map(|token| if token == at { "*" } else { "a" }).collect();
        if router.admits(pattern(&text.join(".")), 1).is_ok() {
            router.subscribe(pattern(&text.join(".")), 1);
            admitted += 1;
        }
    }
    assert!(admitted < 10, "{admitted}");
    let subject = ["a"; 255].join(".");
    let visited = router.trie.visited(&router.secret, Subject::new(&subject, &LIMITS).unwrap());
    assert!(visited < 1_200, "{visited}");
}

#[test]
fn the_seed_has_no_influence_on_who_is_told() {
    let tokens = tokens();
    let told = |seed| {
        let mut router = Router::new(seed);
        for (member, token) in (0..).zip(&tokens) {
            for text in [token.clone(), alloc::format!("*.{token}"), alloc::format!("{token}.>")] {
                router.subscribe(pattern(&text), member);
            }
        }
        let pairs = tokens.iter().flat_map(|a| tokens.iter().map(move |b| alloc::format!("{a}.{b}")));
        pairs.map(|subject| routed(&mut router, &subject)).collect::<Vec<_>>()
    };
    for seed in [1, 2, u64::MAX] {
        assert_eq!(told(seed), told(0));
    }
}

#[test]
fn memory_is_given_back_while_patterns_leave() {
    let mut router = Router::new(5);
    let names: Vec<[String; 2]> =
        (0..20_000).map(|i| [alloc::format!("a.{i}.b"), alloc::format!("a.{i}.*.c.>")]).collect();
    for (member, texts) in (0..).zip(&names) {
        texts.iter().for_each(|text| assert!(router.subscribe(pattern(text), member)));
    }
    assert_eq!(router.trie.used(), 2 + 3 * 20_000, "the root, `a`, and three for each");
    for (member, texts) in (0..).zip(&names).skip(1_000) {
        texts.iter().for_each(|text| assert!(router.unsubscribe(pattern(text), member)));
    }
    assert_eq!((router.patterns(), router.trie.used()), (2_000, 2 + 3 * 1_000));
    let (nodes, free, edges) = router.trie.capacity();
    assert!(nodes < 8 * 3_000 && free < 8 * 3_000 && edges < 8 * 3_000, "{nodes} {free} {edges}");
    assert!(router.literal.capacity() < 8 * 1_000, "{}", router.literal.capacity());
    for (member, [literal, wild]) in (0..).zip(&names) {
        let expected: &[u32] = if member < 1_000 { &[member] } else { &[] };
        assert_eq!(routed(&mut router, literal), expected);
        assert_eq!(routed(&mut router, &wild.replace('*', "x").replace('>', "y.z")), expected);
    }
    for (member, texts) in (0..).zip(&names).take(1_000) {
        texts.iter().for_each(|text| assert!(router.unsubscribe(pattern(text), member)));
    }
    let (nodes, free, edges) = router.trie.capacity();
    assert!(nodes <= 256 && free <= 256 && edges <= 256, "{nodes} {free} {edges}");
    assert_eq!((router.patterns(), router.subscriptions(), router.trie.used()), (0, 0, 1));
}

#[test]
fn coming_and_going_takes_no_further_memory() {
    let mut router = Router::new(6);
    let turn = |router: &mut Router, i: u32| {
        let text = alloc::format!("a.{i}.*.{i}");
        assert!(router.subscribe(pattern(&text), 0) && router.unsubscribe(pattern(&text), 0));
        router.trie.capacity()
    };
    let first = turn(&mut router, 0);
    for i in 1..1_000 {
        assert_eq!(turn(&mut router, i), first);
    }
}

#[test]
fn a_pattern_with_many_members_lets_each_go() {
    for text in ["a.*", "a.>", "a.b"] {
        let mut router = Router::new(3);
        for member in 0..10_000 {
            assert!(router.subscribe(pattern(text), member));
        }
        assert_eq!((router.patterns(), router.subscriptions()), (1, 10_000));
        assert!(routed(&mut router, "a.b").into_iter().eq(0..10_000));
        for member in (0..10_000).rev() {
            assert!(router.unsubscribe(pattern(text), member));
            assert!(!router.unsubscribe(pattern(text), member));
        }
        assert_eq!((router.patterns(), router.trie.used()), (0, 1));
    }
}

#[test]
fn the_widest_walk_keeps_one_place_for_each_token() {
    // All ways to write ten tokens as `a` or `*`: no patterns of this length lead to more nodes.
    let mut router = Router::new(4);
    for bits in 0..1024u32 {
        let tokens: Vec<&str> = (0..10).map(|at| if bits >> at & 1 == 0 { "a" } else { "*" }).collect();
        router.subscribe(pattern(&(tokens.join(".") + ".>")), bits);
    }
    assert_eq!(router.trie.used(), 2_047);
    assert_eq!(routed(&mut router, &["a"; 10].join(".")), Vec::<u32>::new());
    assert!(routed(&mut router, &["a"; 11].join(".")).into_iter().eq(0..1024));
    assert!(router.trie.places() <= 16, "{}", router.trie.places());
}

#[test]
fn the_deepest_pattern_and_subject_find_each_other() {
    let mut router = Router::new(7);
    let stars = ["*"; 255].join(".");
    let tail = ["*"; 254].join(".") + ".>";
    assert!(router.subscribe(pattern(&stars), 1) && router.subscribe(pattern(&tail), 2));
    assert_eq!(routed(&mut router, &["a"; 255].join(".")), [1, 2]);
    assert_eq!(routed(&mut router, &["a"; 254].join(".")), Vec::<u32>::new());
}

/// Every pattern that `router` shows in steps of `count` places, while `between` is done after each.
fn visited(router: &mut Router, count: usize, mut between: impl FnMut(&mut Router)) -> BTreeMap<String, usize> {
    let (mut seen, mut at) = (BTreeMap::new(), Some(Place::default()));
    while let Some(place) = at {
        at = router.visit(place, count, |pattern, members| {
            seen.insert(pattern.to_owned(), members.len());
        });
        between(router);
    }
    seen
}

#[test]
fn messages_are_counted_for_each_pattern_that_matches_as_long_as_it_has_members() {
    let mut router = Router::new(7);
    let counted = |router: &Router| {
        let (mut seen, mut at) = (BTreeMap::new(), Some(Place::default()));
        while let Some(place) = at {
            at = router.visit(place, 100, |pattern, members| {
                seen.insert(pattern.to_owned(), members.messages());
            });
        }
        seen.into_iter().collect::<Vec<_>>()
    };
    let text = |text: &str, count| (text.to_owned(), count);
    router.subscribe(pattern("a"), 1);
    router.route_counted(subject("a"), 1, |_| ());
    router.subscribe(pattern("a"), 2);
    router.subscribe(pattern("*"), 2);
    router.route_counted(subject("a"), 1, |_| ());
    router.route_counted(subject("b"), 1, |_| ());
    router.route(subject("a"), |_| ());
    assert_eq!(counted(&router), [text("*", 2), text("a", 2)]);
    router.unsubscribe(pattern("a"), 1);
    router.route_counted(subject("a"), 1, |_| ());
    assert_eq!(counted(&router), [text("*", 3), text("a", 3)]);
    router.unsubscribe(pattern("a"), 2);
    router.subscribe(pattern("a"), 2);
    assert_eq!(counted(&router), [text("*", 3), text("a", 0)]);
}

#[test]
fn every_pattern_is_shown_with_its_members_in_steps_of_any_size() {
    let mut router = Router::new(3);
    assert!(visited(&mut router, 1, |_| {}).is_empty());
    let patterns =
        ["a", "a.b", "*", ">", "a.>", "a.*.c", "a.*", "*.b.>", "a-token-that-is-too-long-to-lie-in-a-node.*"];
    for (index, text) in patterns.iter().enumerate() {
        for member in 0..=index as u32 {
            router.subscribe(Pattern::new(text, &Limits::DEFAULT).unwrap(), member);
        }
    }
    for count in [1, 2, 7, 1_000] {
        let seen = visited(&mut router, count, |_| {});
        assert_eq!(seen.len(), patterns.len());
        for (index, text) in patterns.iter().enumerate() {
            assert_eq!(seen.get(*text), Some(&(index + 1)), "{text} in steps of {count}");
        }
    }
}

/// The tables grow, shrink and are put in order under the hands of whoever goes through them.
#[test]
fn a_pattern_that_stays_is_shown_whatever_comes_and_goes_meanwhile() {
    let limits = Limits::DEFAULT;
    for (seed, staying, coming) in [(1, 40, 3_000), (2, 700, 700), (3, 5, 90)] {
        let mut router = Router::new(seed);
        let text = |kind: &str, index: usize| [format!("{kind}.{index}"), format!("{kind}.*.{index}")];
        let each = |router: &mut Router, kind: &str, index: usize, adds: bool| {
            for text in text(kind, index) {
                let pattern = Pattern::new(&text, &limits).unwrap();
                let _ = if adds { router.subscribe(pattern, 1) } else { router.unsubscribe(pattern, 1) };
            }
        };
        (0..coming / 2).for_each(|index| each(&mut router, "goes", index, true));
        (0..staying).for_each(|index| each(&mut router, "stays", index, true));
        let mut steps = 0;
        let seen = visited(&mut router, 16, |router| {
            // They come first, then all of them go.
            for _ in 0..60 {
                match steps {
                    step if step < coming / 2 => each(router, "goes", coming / 2 + step, true),
                    step if step < coming / 2 + coming => each(router, "goes", step - coming / 2, false),
                    _ => {}
                }
                steps += 1;
            }
        });
        for text in (0..staying).flat_map(|index| text("stays", index)) {
            assert_eq!(seen.get(&text), Some(&1), "{text}");
        }
    }
}

/// What matched the subject that came last is remembered.
#[test]
fn whoever_comes_or_goes_between_two_messages_of_one_subject_is_noticed() {
    let mut router = Router::new(5);
    let twice = |router: &mut Router| {
        let first = routed(router, "a.b");
        // It is remembered from the second time on.
        assert!((0..3).all(|_| routed(router, "a.b") == first));
        first
    };
    assert!(twice(&mut router).is_empty());
    // A literal pattern, one with a wildcard, one with a tail, alone and together.
    for patterns in [&["a.b"][..], &["a.*"], &["a.>"], &[">"], &["a.b", "a.>"], &["a.*", "*.b", ">"]] {
        router.subscribe(pattern(patterns[0]), 1);
        assert_eq!(twice(&mut router), [1]);
        for text in patterns {
            router.subscribe(pattern(text), 1);
            router.subscribe(pattern(text), 2);
            assert_eq!(twice(&mut router), [1, 2], "{text}");
            assert_eq!(routed(&mut router, "c"), if *text == ">" { Vec::from([1, 2]) } else { Vec::new() });
            assert_eq!(twice(&mut router), [1, 2], "{text}");
        }
        for text in patterns {
            router.unsubscribe(pattern(text), 1);
        }
        assert_eq!(twice(&mut router), [2]);
        for text in patterns {
            router.unsubscribe(pattern(text), 2);
        }
        assert!(twice(&mut router).is_empty());
    }
}
