//! A name that a client may ask the admin port under, parsed once.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest name that DNS has.
const LONGEST: usize = 253;

/// A host's name, in small letters and without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// The name, as it is compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            (1..=63).contains(&label.len()) && label.chars().all(known)
        };
        if name.len() > LONGEST || !name.split('.').all(is_label) {
            let shown = text.chars().take(LONGEST).collect::<String>();
            return Err(format!(
                "`{}` is not a host's name; write it without scheme and port, like everyline.monitoring.svc (IP addresses are always answered)",
                shown.escape_debug()
            ));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_and_addresses_with_ports_are_not() {
        for (text, name) in
            [("a", "a"), ("Everyline.Monitoring.svc.", "everyline.monitoring.svc"), ("n_1", "n_1")]
        {
            assert_eq!(HostName::parse(text).unwrap().as_str(), name);
        }
        let long = format!("{}a", "a.".repeat(127));
        for text in ["", ".", "a..b", "a:9477", "http://a", "*.a", "[::1]", "a b", "ä", &long] {
            let error = HostName::parse(text).unwrap_err();
            assert!(error.contains("not a host's name"), "{text}: {error}");
        }
    }
}
