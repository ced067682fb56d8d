#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

/// The snippets of README.md and of the book are compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/book/en/from-go.md")]
#[doc = include_str!("../docs/book/en/monitoring.md")]
#[doc = include_str!("../docs/book/en/programs.md")]
struct Snippets;
