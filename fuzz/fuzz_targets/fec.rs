//! See `kcpq_fuzz::fec`.
#![cfg_attr(fuzzing, no_main)]

kcpq_fuzz::fuzz_target!(fec);
