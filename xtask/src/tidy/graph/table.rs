//! The table of the agent's modules, and what each may use.

/// Modules from the ground up, and what each may use.
pub(super) const ALLOWED: &[(&str, &[&str])] = &[
    ("causes", &[]),
    ("descriptors", &[]),
    ("held_back", &[]),
    ("identity", &[]),
    ("config", &[]),
    ("ownership", &[]),
    ("privileges", &[]),
    ("reason", &[]),
    ("shown", &[]),
    ("tenants", &[]),
    ("terminal", &[]),
    ("known_files", &["tenants"]),
    ("record", &["identity"]),
    ("source", &["config"]),
    ("zone", &["record"]),
    ("messages", &["held_back", "reason"]),
    ("metrics", &["held_back", "reason"]),
    ("checkpoint", &["identity", "ownership"]),
    ("ledger", &["checkpoint", "identity", "reason", "source"]),
    ("decode", &["config", "identity", "record", "source"]),
    ("discover", &["config", "descriptors", "identity", "ownership", "source"]),
    (
        "watch",
        &["causes", "config", "descriptors", "identity", "metrics", "ownership", "privileges"],
    ),
    ("batch", &["config", "identity", "ledger", "reason", "record", "shown", "source"]),
    (
        "deliver",
        &[
            "batch",
            "causes",
            "checkpoint",
            "config",
            "messages",
            "metrics",
            "ownership",
            "reason",
            "shown",
            "terminal",
            "zone",
        ],
    ),
    (
        "archive",
        &[
            "batch",
            "checkpoint",
            "config",
            "deliver",
            "messages",
            "ownership",
            "record",
            "shown",
            "source",
            "zone",
        ],
    ),
    (
        "read",
        &[
            "batch",
            "decode",
            "descriptors",
            "held_back",
            "identity",
            "ledger",
            "messages",
            "metrics",
            "reason",
            "record",
            "source",
            "tenants",
            "watch",
        ],
    ),
    (
        "settle",
        &[
            "batch",
            "checkpoint",
            "identity",
            "ledger",
            "messages",
            "metrics",
            "read",
            "reason",
            "watch",
        ],
    ),
    (
        "registry",
        &[
            "batch",
            "checkpoint",
            "config",
            "descriptors",
            "discover",
            "held_back",
            "identity",
            "known_files",
            "ledger",
            "messages",
            "metrics",
            "read",
            "reason",
            "settle",
            "source",
            "watch",
        ],
    ),
    ("admin", &["config", "held_back", "ledger", "metrics"]),
    (
        "supervisor",
        &[
            "admin",
            "archive",
            "batch",
            "checkpoint",
            "config",
            "decode",
            "deliver",
            "descriptors",
            "discover",
            "held_back",
            "identity",
            "known_files",
            "ledger",
            "metrics",
            "read",
            "registry",
            "settle",
            "watch",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "archive",
            "causes",
            "checkpoint",
            "config",
            "descriptors",
            "discover",
            "identity",
            "ledger",
            "ownership",
            "privileges",
            "reason",
            "shown",
            "supervisor",
            "terminal",
            "watch",
            "zone",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_leads_downwards_only() {
        for (at, (module, allowed)) in ALLOWED.iter().enumerate() {
            for used in *allowed {
                let below = ALLOWED[..at].iter().any(|(below, _)| below == used);
                assert!(below, "`{module}` uses `{used}`, which does not stand above it");
            }
        }
    }
}
