//! The subject that was checked last: those who publish often do so on one subject, many times in a row.

use alloc::string::String;

use super::{Limits, Subject, SubjectError};

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Checked(String);

impl Checked {
    /// The subject of these bytes.
    ///
    /// # Errors
    /// They are none.
    #[inline]
    pub(crate) fn check(&mut self, bytes: &[u8], limits: &Limits) -> Result<Subject<'_>, SubjectError> {
        if bytes.is_empty() || self.0.as_bytes() != bytes {
            let subject = Subject::from_bytes(bytes, limits)?;
            self.0.clear();
            self.0.push_str(subject.0);
        }
        Ok(Subject(&self.0))
    }
}
