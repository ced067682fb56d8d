//! See `kcpq_fuzz::seal_session`.
#![cfg_attr(fuzzing, no_main)]

kcpq_fuzz::fuzz_target!(seal_session);
