//! See `kcpq_fuzz::frame`.
#![cfg_attr(fuzzing, no_main)]

kcpq_fuzz::fuzz_target!(frame);
