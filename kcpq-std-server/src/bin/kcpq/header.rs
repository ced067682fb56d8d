//! Headers, as the command line has them.

use std::str::FromStr;

/// `NAME: VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    name: String,
    value: String,
}

impl Header {
    pub(super) fn parts(&self) -> (&str, &str) {
        (&self.name, &self.value)
    }
}

impl FromStr for Header {
    type Err = String;

    /// White space around name and value is not part of them. Whether they make a header is found out when it is used.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
        Ok(Self { name: name.trim().into(), value: value.trim().into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let parsed = |text: &str| text.parse::<Header>().map(|header| (header.name, header.value));
        assert_eq!(parsed("Trace-Id: 7: 8 "), Ok(("Trace-Id".into(), "7: 8".into())));
        assert_eq!(parsed("a:"), Ok(("a".into(), String::new())));
        assert!(parsed("no colon").is_err());
    }
}
