//! Every setting of the gateway, with its unit and default. The documented file is printed by `tidegate config default`.

use std::net::SocketAddr;

use gateway_core::{ConfigError, HubConfig};
use serde::{Deserialize, Serialize};

/// Which reactor the workers run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineSetting {
    /// io_uring where the kernel allows it, else epoll; the ready line says which.
    #[default]
    Auto,
    /// io_uring, or an error that says what forbids it.
    Uring,
    /// epoll.
    Poll,
}

/// Settings of the section `[gateway]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Worker threads, each with its own reactor and listener; 0: one per core.
    pub workers: u16,
    /// The reactor.
    pub engine: EngineSetting,
    /// Name of this gateway in `welcome`, on links and in metrics; empty: the host name.
    pub name: String,
    /// Origins that browsers may come from, each as they send it: `scheme://host[:port]`, or `null`; empty: any, without
    /// tokens those of this machine. A request without Origin is no browser.
    pub allowed_origins: Vec<String>,
    /// Connections of one worker; beyond it a client is closed with 4429. Not set: the default of the Hub, or what the
    /// open descriptors allow if that is less.
    pub connections_max: Option<u32>,
    /// Silence after which a connection is pinged, in ms; 0: never.
    pub ping_interval_ms: u32,
    /// Pings and pongs of one client in ten seconds; beyond it: close 1008; 0: no limit.
    pub pings_max: u16,
    /// How long a busy worker waits for more events after the first, in us, 0 to 10,000; 0: not at all.
    pub coalesce_us: u32,
    /// How long outputs wait for more to share their frame, in ms, 0 to 100; 0: until the end of the tick.
    pub batch_linger_ms: u32,
    /// Unsent bytes of one connection; beyond it: close 4408.
    pub outbox_bytes_max: usize,
    /// Unsent bytes of all connections of a worker; beyond it the largest are closed first.
    pub outbox_total_bytes_max: usize,
    /// Bytes of incomplete messages and waiting input of a worker; beyond it: close 1013.
    pub input_total_bytes_max: usize,
    /// How long a drain only says so in `/readyz`, in ms, before anything ends; 0: not at all.
    pub drain_delay_ms: u32,
    /// Time over which a drain says goodbye to all clients, in ms.
    pub drain_ms: u32,
    /// What `reconnect` tells a client to wait at least, in ms.
    pub reconnect_after_ms: u32,
    /// What `reconnect` tells it to wait at random in addition, in ms.
    pub reconnect_jitter_ms: u32,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        let hub = HubConfig::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9000)),
            workers: 0,
            engine: EngineSetting::Auto,
            name: String::new(),
            allowed_origins: Vec::new(),
            connections_max: None,
            ping_interval_ms: hub.ping_interval_ms,
            pings_max: hub.pings_max,
            coalesce_us: COALESCE_US,
            batch_linger_ms: hub.batch_linger_ms,
            outbox_bytes_max: hub.outbox_bytes_max,
            outbox_total_bytes_max: hub.outbox_total_bytes_max,
            input_total_bytes_max: hub.input_total_bytes_max,
            drain_delay_ms: DRAIN_DELAY_MS,
            drain_ms: hub.drain_ms,
            reconnect_after_ms: hub.reconnect_after_ms,
            reconnect_jitter_ms: hub.reconnect_jitter_ms,
        }
    }
}

impl GatewayConfig {
    /// Returns what the Hub of each worker is given, checked.
    ///
    /// Errors: names the first setting that is out of range, and the range.
    pub fn hub(&self) -> Result<HubConfig, ConfigError> {
        let defaults = HubConfig::default();
        let hub = HubConfig {
            connections_max: self.connections_max.unwrap_or(defaults.connections_max),
            ping_interval_ms: self.ping_interval_ms,
            pings_max: self.pings_max,
            outbox_bytes_max: self.outbox_bytes_max,
            outbox_total_bytes_max: self.outbox_total_bytes_max,
            input_total_bytes_max: self.input_total_bytes_max,
            batch_linger_ms: self.batch_linger_ms,
            drain_ms: self.drain_ms,
            reconnect_after_ms: self.reconnect_after_ms,
            reconnect_jitter_ms: self.reconnect_jitter_ms,
        };
        hub.check()?;
        Ok(hub)
    }

    /// Checks how long a drain waits.
    ///
    /// Errors: names the setting and its range.
    pub fn check_drain_delay(&self) -> Result<(), String> {
        if self.drain_delay_ms <= DRAIN_DELAY_MS_MAX {
            Ok(())
        } else {
            Err(format!("drain_delay_ms must be at most {DRAIN_DELAY_MS_MAX}"))
        }
    }

    /// Checks how long a busy worker waits for more events.
    ///
    /// Errors: names the setting and its range.
    pub fn check_coalesce(&self) -> Result<(), String> {
        if self.coalesce_us <= COALESCE_US_MAX {
            Ok(())
        } else {
            Err(format!("coalesce_us must be at most {COALESCE_US_MAX}"))
        }
    }

    /// Checks the origins: one that no browser ever sends would shut its users out without a word.
    ///
    /// Errors: names the setting, the entry, and what it must look like.
    pub fn check_origins(&self) -> Result<(), String> {
        match self.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            None => Ok(()),
            Some(origin) => Err(format!(
                "allowed_origins: {origin:?} must be scheme://host[:port] as a browser sends it (lower case, no path, no \
                 default port), or \"null\""
            )),
        }
    }

    /// Returns the number of workers: as set, or one per core.
    pub fn workers(&self) -> u16 {
        if self.workers > 0 { self.workers } else { cores() }
    }
}

/// Returns whether a browser could send this as `Origin` (RFC 6454 section 6.1; the HTML standard's "opaque": `null`).
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text == "null";
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    // The colons of an IPv6 address stand in brackets.
    let after_host = rest.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match rest[after_host..].find(':') {
        Some(at) => (&rest[..after_host + at], Some(&rest[after_host + at + 1..])),
        None => (rest, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b))
        }
    };
    let is_port = port.is_none_or(|port| {
        let is_default = matches!((scheme, port), ("http", "80") | ("https", "443"));
        port.starts_with(|c: char| c.is_ascii_digit()) && port.parse::<u16>().is_ok() && !is_default
    });
    is_scheme && is_host && is_port
}

/// Measured in docs/benchmarks.md.
const COALESCE_US: u32 = 500;
/// More would be felt as slowness, and saves little.
const COALESCE_US_MAX: u32 = 10_000;

/// A balancer that probes every half second has seen it twice.
const DRAIN_DELAY_MS: u32 = 1_000;
const DRAIN_DELAY_MS_MAX: u32 = 3_600_000;

/// Returns the number of cores this process may use, at least 1.
pub fn cores() -> u16 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1_024) as u16)
}

impl From<EngineSetting> for runtime::EngineChoice {
    fn from(setting: EngineSetting) -> Self {
        match setting {
            EngineSetting::Auto => Self::Auto,
            EngineSetting::Uring => Self::Uring,
            EngineSetting::Poll => Self::Poll,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in [
            "https://app.example",
            "http://localhost:3000",
            "http://[::1]:8080",
            "https://xn--bcher-kva.example",
            "chrome-extension://abcdef",
            "null",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "not a url",
            "",
            "*",
            "app.example",
            "https://",
            "https://app.example/",
            "https://App.example",
            "https://app.example:443",
            "https://app.example:",
            "https://app.example:+1",
            "https://user@app.example",
            "https://*.example",
            "http://[::1",
            "://app.example",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
