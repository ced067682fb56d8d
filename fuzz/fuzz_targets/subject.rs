//! See `kcpq_fuzz::subject`.
#![cfg_attr(fuzzing, no_main)]

kcpq_fuzz::fuzz_target!(subject);
