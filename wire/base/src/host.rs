//! The host that a request is meant for and the page it comes from, where no token says who asks.
//!
//! A server on loopback is reached by every page that its user's browser shows. Such a page cannot hide its `Origin`
//! from a WebSocket or a POST; and one that made its own name resolve to 127.0.0.1 (DNS rebinding), which makes it of
//! the same origin, cannot hide that name in `Host`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns whether a request comes from this machine, as far as a browser can be made to tell.
///
/// Shape: `host` and `origin` are the headers, where present. Each must name loopback, or `origin` must be in `allowed` as it
/// stands, or `host` be the host of one in `allowed`. Without an `origin` it is no page, or a page's read of its own host.
pub fn is_local(host: Option<&str>, origin: Option<&str>, allowed: &[String]) -> bool {
    let is_allowed_host = |host: &str| {
        let mut hosts = allowed.iter().filter_map(|origin| authority(origin));
        hosts.any(|allowed| name(allowed).eq_ignore_ascii_case(name(host)))
    };
    let is_allowed_origin = |origin: &str| {
        let is_listed = allowed.iter().any(|allowed| allowed == origin);
        is_listed || authority(origin).is_some_and(is_loopback)
    };
    host.is_some_and(|host| is_loopback(host) || is_allowed_host(host))
        && origin.is_none_or(is_allowed_origin)
}

/// Returns whether `authority`, a host with or without a port, always means the machine it is used on.
///
/// Source: RFC 6761 section 6.3 (`localhost` and every name below it), RFC 1122 section 3.2.1.3 (127.0.0.0/8), RFC 4291
/// section 2.5.3 (`::1`).
pub fn is_loopback(authority: &str) -> bool {
    let name = name(authority);
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address = address.parse::<Ipv6Addr>().map(IpAddr::V6);
        return address.is_ok_and(|address| address.to_canonical().is_loopback());
    }
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return address.is_loopback();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = name.rsplit('.').next().unwrap_or_default();
    label.eq_ignore_ascii_case("localhost") && !name.starts_with('.')
}

/// Returns what stands behind `scheme://` in an origin.
fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

/// Returns `authority` without its port; the colons of an IPv6 address stand in brackets.
fn name(authority: &str) -> &str {
    let after_host = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_host..].find(':') {
        Some(at)
            if authority[after_host + at + 1..]
                .bytes()
                .all(|b| b.is_ascii_digit()) =>
        {
            &authority[..after_host + at]
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_a_name_or_address_that_no_resolver_decides_about() {
        for local in [
            "localhost",
            "LocalHost:9000",
            "localhost.",
            "app.localhost:3000",
            "127.0.0.1",
            "127.8.9.10:9001",
            "[::1]",
            "[::1]:9000",
            "[::ffff:127.0.0.1]:9000",
        ] {
            assert!(is_loopback(local), "{local}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            ".localhost",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "10.0.0.1:9000",
            "[::2]",
            "[::1",
            "::1",
            "localhost:80:80",
            "user@localhost:x",
            "localhost:9000@evil.example",
        ] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }

    #[test]
    fn host_and_origin_must_both_be_of_this_machine_or_allowed() {
        let allowed = [
            "https://app.example".to_owned(),
            "http://dev.test:3000".to_owned(),
        ];
        for (host, origin, is_allowed) in [
            ("localhost:9000", None, true),
            ("127.0.0.1:9000", Some("http://localhost:3000"), true),
            ("127.0.0.1:9000", Some("https://app.example"), true),
            ("dev.test:9000", Some("http://dev.test:3000"), true),
            ("localhost:9000", Some("https://evil.example"), false),
            ("localhost:9000", Some("null"), false),
            ("localhost:9000", Some("http://app.example"), false),
            ("evil.example:9000", None, false),
            ("evil.example:9000", Some("http://localhost:3000"), false),
            ("evil.example:9000", Some("http://evil.example:9000"), false),
        ] {
            assert_eq!(
                is_local(Some(host), origin, &allowed),
                is_allowed,
                "{host} {origin:?}"
            );
        }
        assert!(!is_local(None, None, &[]));
        assert!(is_local(Some("localhost"), Some("null"), &["null".to_owned()]));
        assert!(!is_local(Some("app.example"), None, &[]));
    }
}
