//! What an operator may set, with its unit and default.

use wire_base::limits::{FRAME_BYTES_MAX, WINDOW_BYTES_MAX};

use crate::limits;

/// Settings of one worker's connections, whatever the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// Most connections of this worker (default 20,000). Beyond it a client is upgraded and closed with 4429. Costs
    /// about 124 bytes each when they are idle sessions.
    pub connections_max: u32,
    /// Silence after which a client is pinged, in ms (default 25,000); 0: never. Two missed pings end the connection,
    /// so a peer that vanished is noticed after three intervals at most.
    pub ping_interval_ms: u32,
    /// Most pings and pongs of a client in ten seconds (default 100); 0: no limit. Beyond it: close 1008.
    pub pings_max: u16,
    /// Most bytes that wait for a connection that does not take them (default 256 KiB, at least one frame). Beyond it
    /// the client is closed with 4408, and resumes by its cursor.
    pub outbox_bytes_max: usize,
    /// Most bytes in all outboxes of this worker (default 32 MiB). Beyond it the largest are closed with 4408.
    pub outbox_total_bytes_max: usize,
    /// Most bytes of incomplete messages and of input that waits, of this worker (default 32 MiB). Beyond it the
    /// connection that asks for more is closed with 1013.
    pub input_total_bytes_max: usize,
    /// How long outputs of a connection may wait for more to share a frame with, in ms (default 0: until the end of the
    /// tick; at most 100). Delays every message by up to that much.
    pub batch_linger_ms: u32,
    /// Time over which a drain says goodbye to all clients, in ms (default 5,000). Short ones make all of them
    /// reconnect at once; the process ends up to 5 s after it.
    pub drain_ms: u32,
    /// What `reconnect` tells a client to wait at least, in ms (default 500).
    pub reconnect_after_ms: u32,
    /// What `reconnect` tells it to wait at random in addition, in ms (default 5,000).
    pub reconnect_jitter_ms: u32,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX,
            ping_interval_ms: limits::PING_INTERVAL_MS,
            pings_max: limits::PINGS_MAX,
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
            outbox_total_bytes_max: limits::OUTBOX_TOTAL_BYTES_MAX,
            input_total_bytes_max: limits::INPUT_TOTAL_BYTES_MAX,
            batch_linger_ms: 0,
            drain_ms: limits::DRAIN_MS,
            reconnect_after_ms: 500,
            reconnect_jitter_ms: 5_000,
        }
    }
}

impl HubConfig {
    /// Returns the settings for conformance suites and engine benchmarks: no pings, and room for large messages.
    pub fn echo() -> Self {
        Self {
            ping_interval_ms: 0,
            pings_max: 0,
            outbox_total_bytes_max: 512 * 1024 * 1024,
            input_total_bytes_max: 512 * 1024 * 1024,
            drain_ms: 0,
            ..Self::default()
        }
    }

    /// Checks each setting.
    ///
    /// Errors: names the setting that is out of range, and the range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let at_least = |setting, value: u64, min: u64| {
            if value < min {
                Err(ConfigError {
                    setting,
                    rule: "at least",
                    bound: min,
                })
            } else {
                Ok(())
            }
        };
        let at_most = |setting, value: u64, max: u64| {
            if value > max {
                Err(ConfigError {
                    setting,
                    rule: "at most",
                    bound: max,
                })
            } else {
                Ok(())
            }
        };
        at_least("connections_max", self.connections_max.into(), 1)?;
        at_most("connections_max", self.connections_max.into(), 1 << 24)?;
        if self.ping_interval_ms != 0 {
            at_least("ping_interval_ms", self.ping_interval_ms.into(), 1_000)?;
        }
        at_most("ping_interval_ms", self.ping_interval_ms.into(), 3_600_000)?;
        at_least(
            "outbox_bytes_max",
            self.outbox_bytes_max as u64,
            FRAME_BYTES_MAX as u64,
        )?;
        at_most(
            "outbox_bytes_max",
            self.outbox_bytes_max as u64,
            limits::OUTBOX_TICK_BYTES_MAX as u64,
        )?;
        at_least(
            "outbox_total_bytes_max",
            self.outbox_total_bytes_max as u64,
            self.outbox_bytes_max as u64,
        )?;
        at_least(
            "input_total_bytes_max",
            self.input_total_bytes_max as u64,
            WINDOW_BYTES_MAX as u64,
        )?;
        at_most(
            "batch_linger_ms",
            self.batch_linger_ms.into(),
            limits::BATCH_LINGER_MS_MAX.into(),
        )?;
        at_most("drain_ms", self.drain_ms.into(), 3_600_000)?;
        at_most("reconnect_after_ms", self.reconnect_after_ms.into(), 3_600_000)?;
        at_most("reconnect_jitter_ms", self.reconnect_jitter_ms.into(), 3_600_000)
    }
}

/// A setting out of range; the operator's to correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} must be {rule} {bound}")]
pub struct ConfigError {
    setting: &'static str,
    rule: &'static str,
    bound: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_a_bad_setting_is_named() {
        assert_eq!(HubConfig::default().check(), Ok(()));
        assert_eq!(HubConfig::echo().check(), Ok(()));
        let message = |config: HubConfig| config.check().unwrap_err().to_string();
        assert_eq!(
            message(HubConfig {
                batch_linger_ms: 101,
                ..HubConfig::default()
            }),
            "batch_linger_ms must be at most 100"
        );
        assert_eq!(
            message(HubConfig {
                outbox_bytes_max: 1_000,
                ..HubConfig::default()
            }),
            "outbox_bytes_max must be at least 131072"
        );
        assert_eq!(
            message(HubConfig {
                ping_interval_ms: 10,
                ..HubConfig::default()
            }),
            "ping_interval_ms must be at least 1000"
        );
    }
}
