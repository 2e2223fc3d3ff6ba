//! What a node starts from, and how it comes to be.

use std::collections::VecDeque;

use router_records::row::CheckpointRow;
use wire_base::ids::{Offset, UnixMs};

use super::intake::Intake;
use super::intention::Asks;
use super::links::Links;
use super::message_ids::MessageIds;
use super::partition::{CatchUp, Partition, PartitionStart};
use super::partitions::Partitions;
use super::questions::Questions;
use super::shared::Shared;
use super::upkeep::{Upkeep, UpkeepConfig};
use super::{Condition, Node, NodeStats};
use crate::admission::{SendRate, SendRateConfig};
use crate::clock::Clock;
use crate::fold::{Folds, FoldsConfig};
use crate::sessions::{Sessions, SessionsConfig};
use crate::time::Now;
use crate::topology::{PartitionId, Topology};

/// Bounds and delays of a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Most records of one group; as many acks may come on top once they are due.
    pub group_records_max: usize,
    /// Bytes at which a group takes no more records.
    pub group_bytes_max: usize,
    /// Bytes that may wait for room in a link before its sessions get no more. Over twice of it, nothing is read from it.
    pub link_backlog_bytes: usize,
    /// Most records taken from one link in one step.
    pub link_records_per_step: usize,
    /// Most pages that are read at once for sessions that are behind, and as many questions of clients.
    pub pages_at_once: usize,
    /// Bytes of rows that the store has not taken yet, over which no more groups are formed.
    pub unapplied_bytes_max: usize,
    /// How long rows of a node that is alone may be gathered before they are written, in ms.
    pub rows_gather_ms: u64,
    /// How fast a user may send.
    pub send_rate: SendRateConfig,
    /// Sessions.
    pub sessions: SessionsConfig,
    /// Retention, and syncs of the store.
    pub upkeep: UpkeepConfig,
}

/// What a node of one partition starts from.
#[derive(Debug)]
pub struct NodeStart {
    /// The folds, as of the last record that was observed.
    pub folds: Folds,
    /// Creation number of the store, which positions carry.
    pub generation: u32,
    /// Everything in inboxes below this may be gone.
    pub prune_floor: Offset,
    /// The last record whose rows the store holds, surely.
    pub applied: Option<Offset>,
    /// Segments of the log that have a record, oldest first: its offset and log time.
    pub segments: Vec<(Offset, UnixMs)>,
    /// The checkpoints of the store, oldest first.
    pub checkpoints: Vec<CheckpointRow>,
    /// A random number, another one for each process.
    pub seed: u64,
}

impl Node {
    /// Returns a node of one partition and without links, which is to be given the records that the store lacks, and then
    /// [`Node::begin`].
    pub fn new(config: NodeConfig, start: NodeStart, now: Now) -> Self {
        let log_time = start.folds.stamp(UnixMs(0));
        let clock = Clock::start(now, log_time);
        let upkeep = Upkeep::new(
            config.upkeep,
            start.applied,
            start.segments,
            start.checkpoints,
            now,
        );
        let unflushed = start.applied.map_or(Offset(0), |applied| Offset(applied.0 + 1));
        let of_partition = PartitionStart {
            generation: start.generation,
            prune_floor: start.prune_floor,
            flushed: start.applied,
            observe_from: unflushed,
            log_time,
        };
        let mut partition = Partition::new(
            PartitionId::One,
            0,
            start.folds,
            Sessions::new(config.sessions, start.generation),
            Intake::new(unflushed, unflushed),
            &of_partition,
        );
        (partition.is_caught_up, partition.catch_up) = (true, CatchUp::Done);
        let mut node = Self::without_partitions(
            config,
            Topology::OnePartition,
            FoldsConfig::default(),
            clock,
            upkeep,
            start.seed,
            now,
        );
        node.partitions.insert(PartitionId::One, partition);
        node
    }

    /// Returns a node of a cluster, which owns nothing yet. `seed` is a random number, another one for each process; `folds`
    /// bounds the memory of one partition.
    ///
    /// The clock is believed as it is.
    pub fn of_slots(config: NodeConfig, folds: FoldsConfig, topology: Topology, seed: u64, now: Now) -> Self {
        let clock = Clock::start(now, UnixMs(0));
        let upkeep = Upkeep::new(config.upkeep, None, Vec::new(), Vec::new(), now);
        let mut node = Self::without_partitions(config, topology, folds, clock, upkeep, seed, now);
        node.shared.check_clock();
        node
    }

    fn without_partitions(
        config: NodeConfig,
        topology: Topology,
        folds: FoldsConfig,
        clock: Clock,
        upkeep: Upkeep,
        seed: u64,
        now: Now,
    ) -> Self {
        Self {
            shared: Shared {
                topology,
                links: Links::new(config.link_backlog_bytes),
                questions: Questions::default(),
                condition: Condition::Ready,
                is_retrying: false,
                is_stopping: false,
                clock,
                asks: Asks::default(),
                intentions: VecDeque::new(),
                unapplied_bytes: 0,
                flush_due_ms: None,
                pages_under_way: 0,
                appends: 0,
                filled: Vec::new(),
                told: VecDeque::new(),
                given_up: Vec::new(),
                now,
                stats: NodeStats::default(),
                config,
            },
            partitions: Partitions::new(seed),
            folds,
            tenures: 0,
            send_rate: SendRate::new(config.send_rate),
            message_ids: MessageIds::seeded(seed),
            upkeep,
            has_begun: false,
        }
    }

    /// Learns that everything the one log had is folded: from now on records are taken.
    pub fn begin(&mut self, reading: Now) {
        let Some(partition) = self.partitions.get(&PartitionId::One) else {
            return;
        };
        let log_time = partition.folds.stamp(UnixMs(0));
        let noted = self.upkeep.newest_checkpoint();
        self.shared.clock = Clock::start(reading, log_time.max(noted));
        self.shared.now = self.shared.clock.now();
        self.upkeep.begin(partition.prune_floor, log_time);
        self.has_begun = true;
        self.shared.check_clock();
    }
}
