//! Settings of the router and of the embedded storage behind it.

use std::path::PathBuf;

use router_core::admission::SendRateConfig;
use router_core::conversation::ConversationConfig;
use router_core::dedupe::WindowConfig;
use router_core::fold::FoldsConfig;
use router_core::inbox::InboxConfig;
use router_core::node::{NodeConfig, UpkeepConfig};
use router_core::sessions::SessionsConfig;
use serde::{Deserialize, Serialize};
use wire_base::limits::{WINDOW_BYTES_MAX, WINDOW_MAX};
use wire_link::BATCH_BYTES_MAX;

/// Every setting, with its unit, its default, and what it bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterConfig {
    /// Directory of log and store. Default `data`. One process at a time may use it.
    pub data_dir: PathBuf,

    /// Size at which the log starts a new segment, in bytes. Default 64 MiB (1 MiB to 1 GiB). Whole segments are
    /// deleted, and a start reads at least one; smaller ones cost a file and two syncs each.
    pub log_segment_bytes: u64,
    /// How long the log keeps what the store already holds, in minutes. Default 60; at least `dedupe_minutes`, down to
    /// which it goes while a disk is full.
    pub log_retention_minutes: u32,
    /// Whether a group of records is synced to the disk before it is acknowledged. Default true. With false, `sent`
    /// survives the end of the process but not of the machine: for measurements only.
    pub fsync: bool,
    /// Most records of one group, which is one write and one sync. Default 4,096 (1 to 65,536). As many acks may come on
    /// top once they are due.
    pub group_records_max: usize,
    /// Size at which a group takes no more records, in bytes. Default 1 MiB (64 KiB to 8 MiB). Bounds how long a
    /// message waits for others.
    pub group_bytes_max: usize,
    /// How long an ack waits for later ones of its session before it is logged, in ms; up to twice of it, by session. Default 100
    /// (0 to 1,000). Delays the `delivered` that the sender sees, and nothing else.
    pub ack_linger_ms: u32,

    /// How long ids of sends are kept in memory, in minutes of log time. Default 15 (1 to 1,440). A repeated send is
    /// recognized for 29 days either way; from memory without a look-up.
    pub dedupe_minutes: u32,
    /// Most ids kept for that, 28 bytes each. Default 4,194,304, about 120 MB when full. A start reads at most as many
    /// records again to fill that memory.
    pub dedupe_ids_max: usize,

    /// How long messages, inbox entries and ids of sends are stored, in days. Default 30; at least 30, since ids are
    /// accepted for 29. Time in which the router did not run counts as a day at most.
    pub retention_days: u32,
    /// Rows deleted in one step of deleting what is older, four of each message. Default 256 (1 to 10,000). Steps are
    /// 10 ms apart; where that is not enough to end in a quarter of an hour they become larger, up to 16,384 rows.
    pub sweep_rows_max: usize,
    /// How long rows wait in memory for others, to be written with them, in ms. Default 20 (0 to 1,000). What is overwritten
    /// meanwhile is not written at all. Reads see what waits, and the log has it.
    pub store_gather_ms: u32,
    /// How often the store is synced to the disk, in ms. Default 5,000 (100 to 60,000). A start after a crash replays
    /// the log from the last time.
    pub store_persist_interval_ms: u32,
    /// Log bytes after which the store is synced before that interval is over. Default 64 MiB.
    pub store_persist_bytes: u64,
    /// Memory of the store's block cache, in bytes. Default 32 MiB.
    pub store_cache_bytes: u64,
    /// Rows that the store gathers in memory before it writes a table, in bytes. Default 16 MiB (1 MiB to 1 GiB). Up to
    /// four times that is in use while tables are written.
    pub store_memtable_bytes: u64,

    /// Most conversations whose state is kept in memory, about 170 bytes each. Default 131,072. This and the next three
    /// decide how often the store is asked, never an outcome.
    pub conversations_cached_max: usize,
    /// Most outcomes of sends kept in memory, about 220 bytes each. Default 65,536.
    pub outcomes_cached_max: usize,
    /// Most users whose devices and inbox head are kept in memory, about 300 bytes each. Default 131,072.
    pub users_cached_max: usize,
    /// Most watermarks of members kept in memory, about 130 bytes each. Default 131,072.
    pub receipts_cached_max: usize,

    /// Most devices of a user. Default 8 (1 to 64).
    pub devices_per_user_max: u16,
    /// Sustained sends a second of one user over all devices; 0 turns the limit off. Not set: 50, and off with
    /// `--insecure-dev`.
    pub sends_per_s: Option<u32>,
    /// Sends of one user that may come at once after a pause. Default 100; at least 1.
    pub sends_burst: u32,

    /// Bytes that one direction of a link holds. Default 2 MiB (64 KiB to 64 MiB); two directions a gateway worker.
    pub link_pipe_bytes: usize,
    /// Bytes that may wait for room in a link before its sessions get no more. Default 1 MiB. Over twice of it,
    /// nothing more is read from that link.
    pub link_backlog_bytes: usize,
    /// Most records taken from one link in one tick. Default 2,048 (1 to 65,536).
    pub link_records_per_tick: usize,
    /// Most pages of stored messages read for sessions that catch up, and as many for history, in one tick. Default
    /// 32 (1 to 1,024). Live traffic waits that long at most.
    pub pages_per_tick: usize,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            log_segment_bytes: 64 << 20,
            log_retention_minutes: 60,
            fsync: true,
            group_records_max: 4096,
            group_bytes_max: 1 << 20,
            ack_linger_ms: 100,
            dedupe_minutes: 15,
            dedupe_ids_max: 4 << 20,
            retention_days: 30,
            sweep_rows_max: 256,
            store_gather_ms: 20,
            store_persist_interval_ms: 5_000,
            store_persist_bytes: 64 << 20,
            store_cache_bytes: 32 << 20,
            store_memtable_bytes: 16 << 20,
            conversations_cached_max: 128 << 10,
            outcomes_cached_max: 64 << 10,
            users_cached_max: 128 << 10,
            receipts_cached_max: 128 << 10,
            devices_per_user_max: 8,
            sends_per_s: None,
            sends_burst: 100,
            link_pipe_bytes: 2 << 20,
            link_backlog_bytes: 1 << 20,
            link_records_per_tick: 2048,
            pages_per_tick: 32,
        }
    }
}

/// Rows that may wait for the store, about: a body keeps the link batch it came in. It bounds memory, and how long nobody
/// feels that the store stands still. fjall stands still while it syncs its journal before it turns a memtable over: 0.26 s
/// were seen with 64 MiB of it, at 30,000 messages/s.
const UNAPPLIED_BYTES_MAX: usize = 32 << 20;

/// A setting outside its bounds: the operator's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("router.{setting}: {reason}")]
pub struct ConfigError {
    /// Name of the setting within this part of the configuration.
    pub setting: &'static str,
    /// What it must be.
    pub reason: String,
}

impl RouterConfig {
    /// Checks every setting against its bounds.
    ///
    /// Errors: names the first that is outside.
    pub fn check(&self) -> Result<(), ConfigError> {
        let within = |setting, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError {
                    setting,
                    reason: format!("must be {min} to {max}, not {value}"),
                })
            }
        };
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError {
                setting: "data_dir",
                reason: "must name a directory".into(),
            });
        }
        within("log_segment_bytes", self.log_segment_bytes, 1 << 20, 1 << 30)?;
        within("dedupe_minutes", self.dedupe_minutes.into(), 1, 1440)?;
        within(
            "log_retention_minutes",
            self.log_retention_minutes.into(),
            self.dedupe_minutes.into(),
            43_200,
        )?;
        within("group_records_max", self.group_records_max as u64, 1, 65_536)?;
        within("group_bytes_max", self.group_bytes_max as u64, 64 << 10, 8 << 20)?;
        within("ack_linger_ms", self.ack_linger_ms.into(), 0, 1000)?;
        within("dedupe_ids_max", self.dedupe_ids_max as u64, 1024, 1 << 30)?;
        within("retention_days", self.retention_days.into(), 30, 36_500)?;
        within("sweep_rows_max", self.sweep_rows_max as u64, 1, 10_000)?;
        within("store_gather_ms", self.store_gather_ms.into(), 0, 1_000)?;
        within(
            "store_persist_interval_ms",
            self.store_persist_interval_ms.into(),
            100,
            60_000,
        )?;
        within("store_persist_bytes", self.store_persist_bytes, 1 << 20, 4 << 30)?;
        within("store_cache_bytes", self.store_cache_bytes, 1 << 20, 64 << 30)?;
        within(
            "store_memtable_bytes",
            self.store_memtable_bytes,
            1 << 20,
            1 << 30,
        )?;
        within(
            "conversations_cached_max",
            self.conversations_cached_max as u64,
            1024,
            1 << 30,
        )?;
        within(
            "outcomes_cached_max",
            self.outcomes_cached_max as u64,
            1024,
            1 << 30,
        )?;
        within("users_cached_max", self.users_cached_max as u64, 1024, 1 << 30)?;
        within(
            "receipts_cached_max",
            self.receipts_cached_max as u64,
            1024,
            1 << 30,
        )?;
        within("devices_per_user_max", self.devices_per_user_max.into(), 1, 64)?;
        within("sends_burst", self.sends_burst.into(), 1, 1_000_000)?;
        within("link_pipe_bytes", self.link_pipe_bytes as u64, 64 << 10, 64 << 20)?;
        within(
            "link_backlog_bytes",
            self.link_backlog_bytes as u64,
            64 << 10,
            64 << 20,
        )?;
        within(
            "link_records_per_tick",
            self.link_records_per_tick as u64,
            1,
            65_536,
        )?;
        within("pages_per_tick", self.pages_per_tick as u64, 1, 1024)
    }

    /// Returns the bounds of the folds' memory.
    pub(crate) fn folds(&self) -> FoldsConfig {
        FoldsConfig {
            conversations: ConversationConfig {
                conversations_max: self.conversations_cached_max,
                outcomes_max: self.outcomes_cached_max,
                window: WindowConfig {
                    span_ms: u64::from(self.dedupe_minutes) * 60_000,
                    ids_max: self.dedupe_ids_max,
                },
            },
            inboxes: InboxConfig {
                devices_max: self.devices_per_user_max.into(),
                users_max: self.users_cached_max,
            },
            receipts_max: self.receipts_cached_max,
            ..FoldsConfig::default()
        }
    }

    /// Returns the bounds of the node.
    pub(crate) fn node(&self) -> NodeConfig {
        NodeConfig {
            group_records_max: self.group_records_max,
            group_bytes_max: self.group_bytes_max,
            link_backlog_bytes: self.link_backlog_bytes,
            link_records_per_step: self.link_records_per_tick,
            pages_at_once: self.pages_per_tick,
            unapplied_bytes_max: UNAPPLIED_BYTES_MAX,
            rows_gather_ms: self.store_gather_ms.into(),
            send_rate: SendRateConfig {
                per_s: self.sends_per_s(false),
                burst: self.sends_burst,
                ..SendRateConfig::default()
            },
            sessions: SessionsConfig {
                ack_linger_ms: self.ack_linger_ms.into(),
                ..SessionsConfig::default()
            },
            upkeep: UpkeepConfig {
                retention_ms: u64::from(self.retention_days) * 24 * 3_600_000,
                log_retention_ms: u64::from(self.log_retention_minutes) * 60_000,
                dedupe_ms: u64::from(self.dedupe_minutes) * 60_000,
                persist_interval_ms: self.store_persist_interval_ms.into(),
                persist_bytes: self.store_persist_bytes,
                sweep_rows_max: self.sweep_rows_max,
            },
        }
    }

    /// Returns the sends a second in force: the setting, else the default of the kind of authentication.
    pub fn sends_per_s(&self, insecure_dev: bool) -> u32 {
        self.sends_per_s
            .unwrap_or(if insecure_dev { 0 } else { SENDS_PER_S_DEFAULT })
    }
}

/// A person types slower; a script that needs more is a service and can be given its own setting.
const SENDS_PER_S_DEFAULT: u32 = 50;

// A backlog takes the window of the largest device, and a whole batch, before its link counts as full.
const _: () = assert!(WINDOW_BYTES_MAX <= BATCH_BYTES_MAX && WINDOW_MAX as usize * 1024 <= BATCH_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(RouterConfig::default().check(), Ok(()));
    }

    #[test]
    fn a_setting_outside_its_bounds_is_named() {
        let config = RouterConfig {
            retention_days: 7,
            ..RouterConfig::default()
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "router.retention_days: must be 30 to 36500, not 7"
        );
        let config = RouterConfig {
            dedupe_minutes: 90,
            ..RouterConfig::default()
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "router.log_retention_minutes: must be 90 to 43200, not 60"
        );
    }

    #[test]
    fn a_file_that_names_an_unknown_setting_is_refused_and_the_rest_keeps_its_defaults() {
        let config: RouterConfig = toml::from_str("sends_per_s = 7").unwrap();
        assert_eq!(
            config,
            RouterConfig {
                sends_per_s: Some(7),
                ..RouterConfig::default()
            }
        );
        let error = toml::from_str::<RouterConfig>("sends_per_second = 7")
            .unwrap_err()
            .to_string();
        assert!(error.contains("sends_per_second"), "{error}");
    }

    #[test]
    fn the_send_rate_is_off_in_development_unless_it_is_set() {
        let unset = RouterConfig::default();
        assert_eq!(
            (unset.sends_per_s(true), unset.sends_per_s(false)),
            (0, SENDS_PER_S_DEFAULT)
        );
        let set = RouterConfig {
            sends_per_s: Some(9),
            ..unset
        };
        assert_eq!((set.sends_per_s(true), set.sends_per_s(false)), (9, 9));
    }
}
