//! What threads share things by: `std`'s; and loom's in a build that tries what they do in every order (`bash .ci/run threads`).

#[cfg(all(test, kcpq_loom))]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(all(test, kcpq_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
