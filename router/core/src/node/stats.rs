//! What a node counts: plain numbers that a driver copies out; and what it says of itself when asked.

use wire_base::code::Code;
use wire_base::ids::Offset;

use super::Node;
use super::partition::Partition;
use crate::sessions::Sessions;
use crate::topology::PartitionId;

/// Numbers of a node since it started. Those that [`super::Node::stats`] fills in are gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Messages given a seq.
    pub sends: u64,
    /// Sends answered with the seq of an earlier one.
    pub duplicates: u64,
    /// Sends refused, by code, in the order of [`Code::ALL`].
    pub rejected: [u64; Code::ALL.len()],
    /// Acks given to the log.
    pub acks: u64,
    /// Times that the log had no room.
    pub log_full: u64,
    /// Messages handed to sessions, each connection counted.
    pub deliveries: u64,
    /// Status updates handed to sessions, each connection counted.
    pub status_updates: u64,
    /// Status updates lost because a link stood still.
    pub status_updates_lost: u64,
    /// Pages of stored messages read for sessions that catch up.
    pub backlog_pages: u64,
    /// Pages of history and of conversations answered.
    pub history_pages: u64,
    /// Batches that a link had no room for.
    pub link_refusals: u64,
    /// Links closed because their client broke the format.
    pub link_faults: u64,
    /// Look-ups that missed memory and went to the store.
    pub store_reads: u64,
    /// Reads and writes that the store failed.
    pub store_errors: u64,
    /// Times that the wall clock was not believed.
    pub clock_doubts: u64,
    /// Syncs of the store.
    pub store_persists: u64,
    /// Steps of deleting what is past retention.
    pub sweep_steps: u64,
    /// Records that are in the log and not surely in the store: what a start after a crash replays.
    pub store_lag: u64,
    /// Records refused, or dropped, because another node owns their slot, or this one had not caught up with it.
    pub not_owned: u64,
    /// Groups that the log of a slot did not take.
    pub append_failures: u64,
    /// Batches of records that came without those before them.
    pub gaps: u64,
    /// Records of a log that differ from what was reported to be there.
    pub mismatches: u64,
    /// Times that a step looked at a partition.
    pub partition_looks: u64,
    /// Partitions owned.
    pub partitions: u64,
    /// Links open.
    pub links: u64,
    /// Sessions open.
    pub sessions: u64,
    /// Sessions that wait for a page, those of links that stand still among them.
    pub sessions_behind: u64,
    /// Devices whose ack waits to be logged.
    pub acks_waiting: u64,
    /// Bytes that wait for room in links.
    pub link_backlog: u64,
    /// Bytes of rows that the store has not taken yet.
    pub unapplied_bytes: u64,
}

impl NodeStats {
    pub(super) fn count_rejected(&mut self, code: Code) {
        let index = Code::ALL.iter().position(|listed| *listed == code);
        self.rejected[index.expect("ALL lists every code")] += 1;
    }
}

impl Node {
    /// Returns whether nothing is under way: no record on its way into the log or into the folds, no row on its way into the
    /// store, no question, no retry of a disk; and before the end of the process nothing that waits for company.
    pub fn is_quiet(&self) -> bool {
        if self.shared.is_stopping && !self.partitions.values().all(Partition::has_logged_all) {
            return false;
        }
        self.partitions.values().all(Partition::is_quiet)
            && self.shared.unapplied_bytes == 0
            && self.shared.asks.is_empty()
            && !self.shared.is_retrying
    }

    /// Returns whether every record that was appended or consumed is folded.
    pub fn is_folded(&self) -> bool {
        self.partitions
            .values()
            .all(|partition| partition.pending.is_empty())
    }

    /// Returns the last record of the one log whose rows the store was given, when those are all that the log has: then the
    /// store, once it has them, is complete. `None` when that is not known.
    pub fn complete_through(&self) -> Option<Option<Offset>> {
        (self.is_quiet() && self.shared.condition.takes_records()).then(|| self.handed())
    }

    /// Returns what was counted, gauges included.
    pub fn stats(&self) -> NodeStats {
        let sum = |of: fn(&Sessions) -> usize| {
            let sessions = self.partitions.values().map(|partition| &partition.sessions);
            sessions.map(of).sum::<usize>() as u64
        };
        NodeStats {
            partitions: self.partitions.len() as u64,
            links: self.shared.links.len() as u64,
            sessions: sum(Sessions::len),
            sessions_behind: sum(Sessions::behind),
            acks_waiting: sum(Sessions::acks_waiting),
            link_backlog: self.shared.links.waiting_bytes() as u64,
            unapplied_bytes: self.shared.unapplied_bytes as u64,
            store_lag: self.store_lag(),
            ..self.shared.stats
        }
    }

    /// Returns how many records of the one log a start after a crash would replay.
    fn store_lag(&self) -> u64 {
        let next = self.handed().map_or(0, |offset| offset.0 + 1);
        next.saturating_sub(self.upkeep.unpersisted().0)
    }

    /// Returns the last record of the one log whose rows the store was given.
    pub(super) fn handed(&self) -> Option<Offset> {
        let alone = self.partitions.get(&PartitionId::One);
        alone.and_then(|partition| partition.pending.handed())
    }
}
