//! Further request headers of an `http` sink, parsed once. Which a sink sets itself, and which belong to a
//! single connection, is written down here and nowhere else.

use std::fmt;

use hyper::header::{HeaderName, HeaderValue};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};

/// Names a batch, the same at every attempt for the same records.
pub const BATCH_ID: HeaderName = HeaderName::from_static("everyline-batch-id");

/// Set by the sink: they follow from the URL, the body, the proxy and the batch.
const OWN: [&str; 5] =
    ["content-encoding", "content-length", "content-type", "everyline-batch-id", "host"];
/// They are between two ends of one connection, which the HTTP library manages.
const OF_A_CONNECTION: [&str; 10] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// They hold secrets, and so does whatever is named like one.
const SECRETS: [&str; 4] =
    ["authorization", "proxy-authorization", "cookie", "x-amz-security-token"];
const SECRET_ENDINGS: [&str; 8] = [
    "api-key",
    "apikey",
    "api_key",
    "auth-token",
    "access-token",
    "access-key",
    "secret",
    "password",
];

/// Request headers, each name once.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<Header>);

#[derive(Clone, PartialEq, Eq)]
struct Header {
    /// The name as it was written.
    text: String,
    name: HeaderName,
    value: HeaderValue,
}

impl Headers {
    /// All of them; the values are marked as sensitive, for one may be a key of the server's.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|header| (&header.name, &header.value))
    }

    /// Whether this name is among them.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|header| header.name == *name)
    }
}

/// Parses a name that a sink can be told to send; an error says, after a semicolon, what to do.
pub(super) fn parse_name(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text.parse().map_err(|_invalid| {
        format!("`{}` is no name for a header; use letters, digits and -", text.escape_debug())
    })?;
    if OWN.contains(&name.as_str()) {
        return Err(format!(
            "the header `{text}` follows from the body and the URL; leave it out, see body, compression and url"
        ));
    }
    if OF_A_CONNECTION.contains(&name.as_str()) {
        return Err(format!(
            "the header `{text}` is about the connection, which the sink manages; leave it out"
        ));
    }
    Ok(name)
}

/// The same for a header whose value stands in the configuration.
fn parse_open_name(text: &str) -> Result<HeaderName, String> {
    let lower = text.to_ascii_lowercase();
    if SECRETS.contains(&lower.as_str())
        || SECRET_ENDINGS.iter().any(|ending| lower.ends_with(ending))
    {
        return Err(format!(
            "the header `{}` holds a secret, and secrets do not belong into the configuration; give a \
             file under auth (bearer_token_file, or header_name and header_value_file)",
            text.escape_debug()
        ));
    }
    parse_name(text)
}

struct Name(String, HeaderName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = parse_open_name(&text).map_err(de::Error::custom)?;
        Ok(Self(text, name))
    }
}

struct Value(HeaderValue);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Spaces around it would be taken off on the way.
        if text.trim() != text || text.is_empty() {
            let why = "the header's value is empty or has spaces around it; write it without";
            return Err(de::Error::custom(why));
        }
        let mut value = HeaderValue::from_str(&text).map_err(|_may_be_secret| {
            de::Error::custom(
                "the header's value has characters that no header can have; use visible ASCII",
            )
        })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some((Name(text, name), Value(value))) = map.next_entry()? {
                    if headers.contains(&name) {
                        return Err(de::Error::custom(format!(
                            "the header `{name}` is given twice (upper and lower case are the same); keep one"
                        )));
                    }
                    headers.0.push(Header { text, name, value });
                }
                Ok(headers)
            }
        }

        deserializer.deserialize_map(All)
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for Header { text, value, .. } in &self.0 {
            map.serialize_entry(text, &String::from_utf8_lossy(value.as_bytes()))?;
        }
        map.end()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Headers, String> {
        serde_json::from_str(json).map_err(|error: serde_json::Error| error.to_string())
    }

    #[test]
    fn a_sinks_own_headers_and_those_of_a_connection_are_refused_in_any_case() {
        for name in OWN.iter().chain(&OF_A_CONNECTION).chain(&SECRETS) {
            for name in [(*name).to_owned(), name.to_uppercase()] {
                let said = parse(&format!(r#"{{"{name}": "hunter2"}}"#)).unwrap_err();
                assert!(said.contains(&format!("`{name}`")) && !said.contains("hunter2"), "{said}");
            }
        }
        for name in ["X-Api-Key", "DD-API-KEY", "X-Auth-Token", "client-secret"] {
            let said = parse(&format!(r#"{{"{name}": "hunter2"}}"#)).unwrap_err();
            assert!(said.contains("value_file") && !said.contains("hunter2"), "{said}");
        }
        for (json, what) in [
            (r#"{"a b": "x"}"#, "no name"),
            (r#"{"": "x"}"#, "no name"),
            (r#"{"x-a": "hunter2\n"}"#, "spaces"),
            (r#"{"x-a": "hunter\u00072"}"#, "visible ASCII"),
            (r#"{"x-a": ""}"#, "empty"),
            (r#"{"X-A": "1", "x-a": "2"}"#, "given twice"),
        ] {
            let said = parse(json).unwrap_err();
            assert!(said.contains(what) && !said.contains("hunter"), "{said}");
        }
    }

    #[test]
    fn others_are_taken_and_not_shown() {
        let headers = parse(r#"{"X-Scope-OrgID": "team-a", "user-agent": "me/1"}"#).unwrap();
        assert_eq!(headers.iter().count(), 2);
        assert!(!format!("{headers:?}").contains("team-a"), "{headers:?}");
        let again: Headers = parse(&serde_json::to_string(&headers).unwrap()).unwrap();
        assert_eq!(again, headers);
    }
}
