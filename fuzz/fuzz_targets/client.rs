//! See `kcpq_fuzz::client`.
#![cfg_attr(fuzzing, no_main)]

kcpq_fuzz::fuzz_target!(client);
