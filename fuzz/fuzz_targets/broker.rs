//! See `kcpq_fuzz::broker`.
#![cfg_attr(fuzzing, no_main)]

kcpq_fuzz::fuzz_target!(broker);
