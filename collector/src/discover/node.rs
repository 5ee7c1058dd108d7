//! What this node is called in every record.

use crate::config::Config;

/// The configured name, else the environment's `NODE_NAME` (the downward API), else the host's.
pub(super) fn name(config: &Config) -> String {
    choose(&config.node_name, std::env::var("NODE_NAME").ok(), || {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    })
}

fn choose(configured: &str, given: Option<String>, host: impl FnOnce() -> String) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    given.filter(|name| !name.is_empty()).unwrap_or_else(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_wins_then_the_environment_then_the_host() {
        let host = || "host".to_owned();
        assert_eq!(choose("set", Some("env".into()), host), "set");
        assert_eq!(choose("", Some("env".into()), host), "env");
        assert_eq!(choose("", Some(String::new()), host), "host");
        assert_eq!(choose("", None, host), "host");
    }
}
