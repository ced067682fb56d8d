//! Headers of a message.

use std::fmt;

use kcpq_core::frame::Properties;

/// The headers of a [`Message`](crate::Message): names and values, in the order in which they were given. A name may come
/// several times; case counts. Messages of and through original peers have none.
#[derive(Clone, Copy)]
pub struct Headers<'m>(Properties<'m>);

impl<'m> Headers<'m> {
    pub(crate) fn new(properties: Properties<'m>) -> Self {
        Self(properties)
    }

    /// The first value of this name.
    pub fn get(self, name: &str) -> Option<&'m str> {
        self.0.header(name).next()
    }

    /// All values of this name.
    pub fn get_all(self, name: &str) -> impl Iterator<Item = &'m str> {
        self.0.header(name)
    }

    /// Names and values.
    pub fn iter(self) -> impl Iterator<Item = (&'m str, &'m str)> {
        self.0.headers()
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
