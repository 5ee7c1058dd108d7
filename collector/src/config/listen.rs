//! The address of the admin port, parsed once.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Listen {
    fn parse(text: &str) -> Result<Self, String> {
        let todo = "write IP:PORT, like 127.0.0.1:9477, 0.0.0.0:9477 or [::]:9477";
        match text.parse::<SocketAddr>() {
            // A port of the system's choice would be found by nobody.
            Ok(address) if address.port() == 0 => Err(format!("`{text}` names no port; {todo}")),
            Ok(address) => Ok(Self(address)),
            Err(_) => {
                Err(format!("`{}` is not an address to listen on; {todo}", text.escape_debug()))
            }
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
