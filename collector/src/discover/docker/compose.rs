//! Whether Docker Compose made a container, and for which service of which project.
//!
//! An image may bring Compose's labels along, and its container would pass for another project's. An image
//! chooses neither its container's name nor its networks: one of them must agree.

use super::facts::{Facts, is_plain};

/// Project and service.
pub(super) fn service(facts: &Facts) -> Option<(&str, &str)> {
    let project = facts.label("com.docker.compose.project").filter(|it| is_plain(it))?;
    let service = facts.label("com.docker.compose.service").filter(|it| is_plain(it))?;
    let named = facts.name.as_deref().is_some_and(|name| is_named(name, project, service));
    // `container_name` leaves nothing of the project in the name, but its networks are called after it.
    let of_project = |network: &String| {
        network.strip_prefix(project).is_some_and(|rest| rest.starts_with(['_', '-']))
    };
    (named || facts.networks().any(of_project)).then_some((project, service))
}

/// Whether Compose would call a container of the service so: `PROJECT-SERVICE-1`, `PROJECT_SERVICE_1`,
/// `PROJECT-SERVICE-run-0f3a`; while it is made anew, with digits before it.
fn is_named(name: &str, project: &str, service: &str) -> bool {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_hexdigit());
    let anew = name.split_once('_').filter(|(digits, _)| is_hex(digits)).map(|(_, rest)| rest);
    [Some(name), anew].into_iter().flatten().any(|name| {
        ['-', '_'].into_iter().any(|by| {
            let number = name.strip_prefix(project).and_then(|rest| rest.strip_prefix(by));
            let number = number.and_then(|rest| rest.strip_prefix(service)?.strip_prefix(by));
            let run = number.and_then(|it| it.strip_prefix("run")?.strip_prefix(by));
            run.or(number).is_some_and(is_hex)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_compose_gives() {
        let is = |name: &str| is_named(name, "shop", "web");
        for name in ["shop-web-1", "shop_web_12", "0badf00d_shop_web_1", "shop-web-run-0f3a11"] {
            assert!(is(name), "{name}");
        }
        for name in ["web", "shop-web", "shop-web-", "shop-web-run", "shop-mail-1", "x-shop-web-1"]
        {
            assert!(!is(name), "{name}");
        }
        assert!(!is("shop-web-runé"));
    }
}
