//! See `kcpq_fuzz::kcp`.
#![cfg_attr(fuzzing, no_main)]

kcpq_fuzz::fuzz_target!(kcp);
