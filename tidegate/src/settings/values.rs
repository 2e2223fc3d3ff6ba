//! How people write durations, sizes and addresses.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use bytesize::ByteSize;

/// What the number of a setting counts, as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Us,
    Ms,
    Minutes,
    Days,
    Bytes,
}

impl Unit {
    /// Returns the unit in a setting's name: that of `ping_interval_ms` or `outbox_bytes_max`.
    pub(super) fn of(name: &str) -> Option<Self> {
        name.split('_').find_map(|word| match word {
            "us" => Some(Self::Us),
            "ms" => Some(Self::Ms),
            "minutes" => Some(Self::Minutes),
            "days" => Some(Self::Days),
            "bytes" => Some(Self::Bytes),
            _ => None,
        })
    }

    /// Returns the number of this unit in a text: `25000`, `25s` or `1h 30m`; `65536`, `64KiB` or `64 kB`.
    ///
    /// Errors: says what a value looks like.
    pub(super) fn parse(self, text: &str) -> Result<u64, String> {
        match self {
            Self::Us => whole(text, Duration::from_micros(1), "us"),
            Self::Ms => whole(text, Duration::from_millis(1), "ms"),
            Self::Minutes => whole(text, Duration::from_mins(1), "minutes"),
            Self::Days => whole(text, Duration::from_hours(24), "days"),
            Self::Bytes => parse_bytes(text),
        }
    }
}

/// Returns the seconds in a text: `10`, `10s` or `5m`.
///
/// Errors: says what a value looks like.
pub(crate) fn parse_seconds(text: &str) -> Result<u32, String> {
    let seconds = whole(text, Duration::from_secs(1), "seconds")?;
    u32::try_from(seconds).map_err(|_| format!("at most {} seconds", u32::MAX))
}

/// Returns the bytes in a text: `65536`, `64KiB` or `64kB`, which is 64,000.
///
/// Errors: says what a value looks like.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let size = text.trim().parse::<ByteSize>();
    size.map(|size| size.as_u64()).map_err(|_| {
        "write a whole number of bytes, or a size such as \"64KiB\", \"64MiB\" or \"64MB\"".to_owned()
    })
}

fn whole(text: &str, unit: Duration, name: &str) -> Result<u64, String> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let Ok(duration) = humantime::parse_duration(text) else {
        return Err(format!(
            "write a whole number of {name}, or a duration such as \"500ms\", \"25s\", \"1h 30m\" or \"30days\""
        ));
    };
    let (count, rest) = (
        duration.as_nanos() / unit.as_nanos(),
        duration.as_nanos() % unit.as_nanos(),
    );
    match u64::try_from(count) {
        Ok(count) if rest == 0 => Ok(count),
        _ => Err(format!("{text:?} is not a whole number of {name}")),
    }
}

/// Returns the address to listen on in a text: an IP address or a host name, and a port.
///
/// Errors: a host that is not known, or has several addresses; what an address looks like.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains(':') => match port.parse() {
            Ok(port) => resolve(host, port),
            Err(_) => Err(ADDRESS_EXAMPLE.to_owned()),
        },
        _ => Err(ADDRESS_EXAMPLE.to_owned()),
    }
}

const ADDRESS_EXAMPLE: &str =
    "write an address and a port, such as 127.0.0.1:9000, localhost:9000, or 0.0.0.0:9000 for every address";

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("{host}: {error}; {ADDRESS_EXAMPLE}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort();
    found.dedup();
    // `localhost` has one address of either family; IPv4 stands first.
    if found.iter().all(|address| address.ip().is_loopback()) {
        found.truncate(1);
    }
    match found[..] {
        [address] => Ok(address),
        _ => {
            let all: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
            Err(format!(
                "{host} has {} addresses ({}): write the one to listen on",
                all.len(),
                all.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_the_unit_of_its_setting_and_text_brings_its_own() {
        for (name, text, number) in [
            ("ping_interval_ms", "25000", 25_000),
            ("ping_interval_ms", "25s", 25_000),
            ("ping_interval_ms", "1m 500ms", 60_500),
            ("drain_ms", "1h", 3_600_000),
            ("coalesce_us", "1ms", 1_000),
            ("log_retention_minutes", "2h", 120),
            ("retention_days", "5weeks", 35),
            ("outbox_bytes_max", "256KiB", 262_144),
            ("store_cache_bytes", "64 MB", 64_000_000),
            ("store_cache_bytes", "1.5GiB", 1_610_612_736),
        ] {
            assert_eq!(
                Unit::of(name).unwrap().parse(text),
                Ok(number),
                "{name} = {text:?}"
            );
        }
        assert_eq!(parse_seconds("2m"), Ok(120));
        assert_eq!(parse_seconds("7"), Ok(7));
    }

    #[test]
    fn names_without_a_unit_have_none() {
        for name in ["sends_per_s", "workers", "pings_max", "group_records_max"] {
            assert_eq!(Unit::of(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_number_of_the_unit_is_refused_with_an_example() {
        for (name, text, said) in [
            ("ping_interval_ms", "soon", "such as \"500ms\""),
            ("ping_interval_ms", "25 apples", "such as \"500ms\""),
            ("ping_interval_ms", "-5", "whole number of ms"),
            ("ping_interval_ms", "1500us", "not a whole number of ms"),
            ("retention_days", "36h", "not a whole number of days"),
            ("drain_ms", "64MB", "a duration"),
            ("outbox_bytes_max", "25s", "a size such as \"64KiB\""),
            ("outbox_bytes_max", "", "a size"),
        ] {
            let error = Unit::of(name).unwrap().parse(text).unwrap_err();
            assert!(error.contains(said), "{name} = {text:?}: {error}");
        }
        assert!(parse_seconds("200years").is_err());
    }

    #[test]
    fn an_address_is_an_ip_address_or_a_name_with_one() {
        let parsed = |text: &str| parse_address(text).map(|address| address.to_string());
        assert_eq!(parsed("127.0.0.1:9000"), Ok("127.0.0.1:9000".to_owned()));
        assert_eq!(parsed("[::1]:9000"), Ok("[::1]:9000".to_owned()));
        assert!(parse_address("localhost:9000").unwrap().ip().is_loopback());
        for bad in [
            "",
            ":9000",
            "9000",
            "localhost",
            "localhost:",
            "localhost:x",
            "::1:9000x",
            "1.2.3.4",
        ] {
            assert_eq!(parsed(bad), Err(ADDRESS_EXAMPLE.to_owned()), "{bad}");
        }
        let error = parsed("no-such-host.invalid:9000").unwrap_err();
        assert!(error.starts_with("no-such-host.invalid: "), "{error}");
    }
}
