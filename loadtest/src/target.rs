//! Where the load goes: a `ws://` address, by default only on this machine.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::RunError;

/// A target as given, with the addresses its name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As given.
    pub(crate) url: String,
    /// The `Host` header.
    pub(crate) host: String,
    /// The path; `None` where the address names none, and the mode chooses.
    pub(crate) path: Option<String>,
    /// Where to connect.
    pub(crate) address: SocketAddr,
}

impl Target {
    /// Reads a `ws://host[:port][/path]` address and resolves its host.
    ///
    /// Errors: `Usage` when it is not such an address, does not resolve, or (unless `any_host`) is not on this
    /// machine: load thrown at a machine by a typing mistake is an attack.
    pub fn parse(url: &str, any_host: bool) -> Result<Self, RunError> {
        let usage = |reason: String| RunError::usage("--target", reason);
        let rest = match url.split_once("://") {
            Some(("ws", rest)) => rest,
            Some(("wss", _)) => return Err(usage(format!("`{url}`: wss:// is not supported, only ws://"))),
            _ => {
                return Err(usage(format!(
                    "`{url}` is not an address such as ws://127.0.0.1:9000"
                )));
            }
        };
        let (host, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        if host.is_empty()
            || !rest
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'@' && b != b'#')
        {
            return Err(usage(format!(
                "`{url}` is not an address such as ws://127.0.0.1:9000"
            )));
        }
        let addresses: Vec<SocketAddr> = with_port(host)
            .to_socket_addrs()
            .map_err(|error| usage(format!("`{host}` does not resolve: {error}")))?
            .collect();
        let outside = addresses.iter().find(|address| !address.ip().is_loopback());
        if let (Some(outside), false) = (outside, any_host) {
            return Err(usage(format!(
                "{} is not this machine; add --i-own-this-target if it is yours",
                outside.ip()
            )));
        }
        let address = *addresses
            .first()
            .ok_or_else(|| usage(format!("`{host}` has no address")))?;
        let path = path.filter(|path| *path != "/").map(str::to_owned);
        Ok(Self {
            url: url.to_owned(),
            host: host.to_owned(),
            path,
            address,
        })
    }
}

/// Returns `host` with the port a `ws://` address has when it names none.
fn with_port(host: &str) -> String {
    let after_bracket = host.rsplit_once(']').map_or(host, |(_, after)| after);
    if after_bracket.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let target = Target::parse("ws://127.0.0.1:9000/ws/7", false).unwrap();
        assert_eq!(target.address, "127.0.0.1:9000".parse().unwrap());
        assert_eq!(
            (target.host.as_str(), target.path.as_deref()),
            ("127.0.0.1:9000", Some("/ws/7"))
        );
        for (url, address) in [
            ("ws://127.0.0.1", "127.0.0.1:80"),
            ("ws://[::1]/", "[::1]:80"),
            ("ws://[::1]:9", "[::1]:9"),
        ] {
            let target = Target::parse(url, false).unwrap();
            assert_eq!(
                (target.address, target.path),
                (address.parse().unwrap(), None),
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_not_a_ws_address_is_refused_with_the_setting_named() {
        for url in [
            "",
            "127.0.0.1:9000",
            "http://127.0.0.1",
            "wss://127.0.0.1",
            "ws://",
            "ws:///ws",
            "ws://a b",
            "ws://127.0.0.1:x",
        ] {
            let error = Target::parse(url, false).unwrap_err();
            assert!(error.to_string().starts_with("--target: "), "{url}: {error}");
            assert_eq!(error.exit_code(), 64, "{url}");
        }
    }

    #[test]
    fn another_machine_needs_an_owner() {
        let error = Target::parse("ws://192.0.2.1:9000", false).unwrap_err();
        assert!(error.to_string().contains("--i-own-this-target"), "{error}");
        assert!(Target::parse("ws://192.0.2.1:9000", true).is_ok());
    }
}
