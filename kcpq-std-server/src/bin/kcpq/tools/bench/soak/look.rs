//! What a process uses, and whether that is what it used before.

use super::super::process::{self, usage};

/// What a process uses at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Seconds of CPU so far.
    pub(super) cpu: f64,
    /// Resident memory in bytes.
    pub(super) memory: u64,
    /// Open descriptors.
    pub(super) descriptors: u64,
}

/// What an allocator may keep for itself: a share of what was there, and so many bytes. A page of many short things is kept as long
/// as one of them is there; what really leaks is more than that within minutes.
const SHARE: u64 = 10;
const SLACK: u64 = 32 << 20;

impl Look {
    /// What the process `pid` uses, or this one; nothing where the system does not tell.
    pub(super) fn now(pid: Option<u32>) -> Option<Self> {
        let usage = usage(pid)?;
        Some(Self { cpu: usage.cpu, memory: usage.memory, descriptors: process::descriptors(pid)? })
    }

    fn most_memory(&self) -> u64 {
        self.memory + self.memory / SHARE + SLACK
    }

    /// No more is used than there was.
    pub(super) fn is_as(&self, before: &Self) -> bool {
        self.memory <= before.most_memory() && self.descriptors <= before.descriptors
    }

    /// What is used that was not before.
    pub(super) fn fault(&self, before: &Self, who: &str) -> Option<String> {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        if self.descriptors > before.descriptors {
            return Some(format!(
                "{who} has {} open descriptors, {} before: something is not given back",
                self.descriptors, before.descriptors
            ));
        }
        (self.memory > before.most_memory()).then(|| {
            format!(
                "{who} has {:.1} MiB, {:.1} before: more than a tenth and {} MiB above",
                mebibytes(self.memory),
                mebibytes(before.memory),
                SLACK >> 20
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_back_is_told() {
        let before = Look { cpu: 0.0, memory: 100 << 20, descriptors: 20 };
        assert!(Look { memory: 142 << 20, ..before }.is_as(&before));
        assert_eq!(Look { memory: 50 << 20, descriptors: 19, ..before }.fault(&before, "it"), None);
        let more = Look { memory: 143 << 20, ..before };
        assert!(!more.is_as(&before) && more.fault(&before, "it").unwrap().contains("143.0 MiB"));
        let more = Look { descriptors: 21, ..before };
        assert!(!more.is_as(&before) && more.fault(&before, "it").unwrap().contains("21 open descriptors"));
    }
}
