//! The subject that was checked last: those who publish often do so on one subject, many times in a row.

use alloc::string::String;

use super::Subject;

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Checked(String);

impl Checked {
    /// The subject of these bytes, if it is the one.
    #[inline]
    pub(crate) fn get(&self, bytes: &[u8]) -> Option<Subject<'_>> {
        (!bytes.is_empty() && self.0.as_bytes() == bytes).then_some(Subject(&self.0))
    }

    /// It is this one now.
    #[inline]
    pub(crate) fn set(&mut self, subject: Subject<'_>) {
        self.0.clear();
        self.0.push_str(subject.0);
    }
}
