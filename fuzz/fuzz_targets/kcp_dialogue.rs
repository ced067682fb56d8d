//! See `kcpq_fuzz::kcp_dialogue`.
#![cfg_attr(fuzzing, no_main)]

kcpq_fuzz::fuzz_target!(kcp_dialogue);
