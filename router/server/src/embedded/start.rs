//! Start: what the log has and the store lacks is folded again, and memory of the last sends is filled.
//!
//! In what order a new data directory comes to be, so that a crash anywhere leaves one that starts:
//! 1. The store, with its generation, is made and synced. Alone it is complete up to nothing.
//! 2. The first segment of the log is made with that generation in its header. Without it, the next start makes it.
//!
//! The other way round a log could carry the generation of a store that a crash took away, and refuse the next one.
//!
//! A start judges before it changes anything: log and store are held against each other and every record that will be
//! needed is read, so that a start that is refused leaves all as it was.

use std::fmt;

use router_core::fold::Folds;
use router_core::node::{Node, NodeStart};
use router_core::time::Now;
use router_core::topology::PartitionId;
use router_records::log::LogRecord;
use router_storage::disk::Disk;
use router_storage::log::{
    Log, LogConfig, OpenError, PlannedLog, ReadError, ReadRecord, Recovery, Section, SegmentedLog,
};
use router_storage::store::{Apply, Direction, Limits, Range, Store, StoreError};
use wire_base::codec::DecodeError;
use wire_base::ids::{Offset, UnixMs};

use super::disks::{Disks, Inline};
use super::links::Links;
use super::log_worker::LogWorker;
use super::store_worker::{StoreJob, StoreWorker};
use super::{Router, StopSign};
use crate::config::RouterConfig;
use crate::health::{Health, Readiness};
use crate::metrics::Metrics;

/// Version of what the folds make of a record. Another one continues a log only where a clean stop left the store complete.
pub const FOLD_VERSION: u32 = 1;

/// Why a router did not start. Nothing that the log holds was lost or changed; the data directory needs a person, or
/// another disk.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store refused.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// The log holds records of a store that is not there, or does not know any more which one it is.
    #[error(
        "the log holds records, and their store is gone or lost its identity; no new one is begun beside them"
    )]
    StoreGone,
    /// The log is damaged, does not belong to the store, or the disk refused.
    #[error("the log: {0}")]
    Log(#[from] OpenError),
    /// The log could not be read to its end.
    #[error("the log: {0}")]
    Read(#[from] ReadError),
    /// A whole record cannot be understood: another version wrote it.
    #[error("the record at offset {} of the log cannot be understood: {error}", offset.0)]
    Record {
        /// Which.
        offset: Offset,
        /// What is wrong with it.
        error: DecodeError,
    },
}

/// What a start found and did. `Display` is one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartReport {
    /// Generation of the store.
    pub generation: u32,
    /// What the log went through.
    pub recovery: Recovery,
    /// Records read again for dedupe alone.
    pub observed: u64,
    /// Records folded again into the store.
    pub replayed: u64,
}

impl fmt::Display for StartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            recovery,
            observed,
            replayed,
        } = self;
        write!(
            f,
            "generation {generation:08x}; {recovery}; {replayed} records replayed, {observed} read for dedupe"
        )
    }
}

/// A router on a segmented log, and what its start did.
type Opened<D, S> = (Router<Inline<SegmentedLog<D>, S>>, StartReport);

impl<D: Disk, S: Store> Router<Inline<SegmentedLog<D>, S>> {
    /// Opens the log of a store and makes the store hold all of it. The router is ready then.
    ///
    /// `seed` is a random number, another one at each start. `config.sends_per_s` not set means the default.
    /// Errors: see [`StartError`].
    pub fn open(
        disk: D,
        store: S,
        config: &RouterConfig,
        seed: u64,
        now: Now,
    ) -> Result<(Self, StartReport), StartError> {
        let held = Held::of(&store);
        Start::judge(disk, held, config, seed, now)?.carry_out(store, config)
    }

    /// Has the node fold what the store lacks. Nobody waits for answers any more, and nobody has a session yet.
    fn replay(&mut self, from: Offset, now: Now) -> Result<u64, StartError> {
        let mut first = from;
        loop {
            let records = self.disks.log.log().read_from(first)?.take(REPLAY_RECORDS);
            let batch = records
                .map(|read| Ok(decode(read)?.1))
                .collect::<Result<Vec<_>, StartError>>()?;
            if batch.is_empty() {
                self.disks.submit_store(StoreJob::Flush);
                self.check_store()?;
                return Ok(first.0 - from.0);
            }
            let count = batch.len() as u64;
            self.node.handle_consumed(PartitionId::One, first, batch);
            first.0 += count;
            while !self.node.is_quiet() {
                self.work(now);
                self.check_store()?;
            }
        }
    }

    /// A store that cannot be read or written is a reason not to start.
    fn check_store(&mut self) -> Result<(), StartError> {
        match self.disks.store.take_error() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// What the store says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) generation: u32,
    pub(super) flushed: Option<Offset>,
    pub(super) checkpoint_end: Option<Offset>,
}

impl Held {
    fn of<S: Apply>(store: &S) -> Self {
        Self {
            generation: store.generation(),
            flushed: store.flushed(),
            checkpoint_end: store.checkpoint_end(),
        }
    }

    /// Returns the first record that the store lacks.
    fn unflushed(self) -> Offset {
        self.flushed.map_or(Offset(0), |flushed| Offset(flushed.0 + 1))
    }
}

/// A start that was judged, and has changed nothing yet.
pub(super) struct Start<D: Disk> {
    log: PlannedLog<D>,
    held: Held,
    /// They remember the last sends whose rows are in the store.
    folds: Folds,
    observed: u64,
    seed: u64,
    now: Now,
}

impl<D: Disk> Start<D> {
    /// Holds the log against what the store says, and reads every record that is needed.
    ///
    /// Errors: the start is refused, for any reason but those of the disk and of the store's writes.
    pub(super) fn judge(
        disk: D,
        held: Held,
        config: &RouterConfig,
        seed: u64,
        now: Now,
    ) -> Result<Self, StartError> {
        let log_config = LogConfig {
            segment_bytes: config.log_segment_bytes,
            generation: held.generation,
            fold_version: FOLD_VERSION,
            checkpoint_complete: held.checkpoint_end == Some(held.unflushed()),
            salt_seed: seed,
            ..LogConfig::default()
        };
        let log = PlannedLog::read(disk, log_config, held.flushed)?;
        let (folds, observed) = observe(&log, held, config, now)?;
        Ok(Self {
            log,
            held,
            folds,
            observed,
            seed,
            now,
        })
    }

    /// Returns whether there is a log already.
    pub(super) fn has_log(&self) -> bool {
        self.log.segments().next().is_some()
    }

    /// Makes log and store what a running router needs. `store` is the one that was judged.
    pub(super) fn carry_out<S: Store>(
        self,
        mut store: S,
        config: &RouterConfig,
    ) -> Result<Opened<D, S>, StartError> {
        let Self {
            log,
            held,
            folds,
            observed,
            seed,
            now,
        } = self;
        let opened = Held::of(&store);
        if opened != held {
            let reason =
                format!("opened, it is another one than it was when looked at: {opened:?}, not {held:?}");
            return Err(StoreError::Failed(reason.into()).into());
        }
        store.persist()?; // The generation, before a log carries it.
        let (log, recovery) = log.carry_out()?;
        let start = NodeStart {
            folds,
            generation: held.generation,
            prune_floor: store.prune_floor(),
            applied: held.flushed,
            segments: sections(&log)?,
            checkpoints: store
                .scan(Range::of(()), Direction::Forward, Limits::rows(usize::MAX))?
                .rows,
            seed,
        };
        let metrics = Metrics::default();
        let mut router = Router {
            node: Node::new(config.node(), start, now),
            disks: Inline::new(LogWorker::new(log, metrics.counters()), StoreWorker::new(store)),
            links: Links::new(),
            health: StopSign(Health::starting()),
            counters: metrics.counters(),
            metrics,
        };
        let report = StartReport {
            generation: held.generation,
            observed,
            replayed: router.replay(held.unflushed(), now)?,
            recovery,
        };
        router.counters.replayed.add(report.replayed);
        router
            .counters
            .cut_groups
            .add(u64::from(report.recovery.cut.is_some()));
        router.health.0.set(Readiness::Ready);
        router.node.begin(now);
        router.carry_out();
        Ok((router, report))
    }
}

/// Returns folds that remember the last sends that the store has, and how many records were read for that. Reads also what the
/// store lacks, to see that it can be understood.
fn observe<D: Disk>(
    log: &PlannedLog<D>,
    held: Held,
    config: &RouterConfig,
    now: Now,
) -> Result<(Folds, u64), StartError> {
    let unflushed = held.unflushed();
    let from = match held.flushed {
        Some(_) => observe_from(log, config)?.min(unflushed),
        None => log.first(),
    };
    let evicted = match next_record(log.read_from(from)?)? {
        _ if from == Offset(0) => UnixMs(0),
        Some(record) => record.time,
        // A segment was just begun and every older one deleted: of earlier sends memory knows nothing at all.
        None => now.unix,
    };
    let mut folds = Folds::new(config.folds(), held.generation, evicted);
    let mut observed = 0;
    for read in log.read_from(from)? {
        let (offset, record) = decode(read)?;
        if offset < unflushed {
            folds.observe(offset, &record);
            observed += 1;
        }
    }
    Ok((folds, observed))
}

/// Returns where the ids begin that memory may keep: the start of the last segment that began at least the span of dedupe
/// before the newest one, and no more records before the end than ids are kept.
fn observe_from<D: Disk>(log: &PlannedLog<D>, config: &RouterConfig) -> Result<Offset, StartError> {
    let fewest = Offset(log.next().0.saturating_sub(config.dedupe_ids_max as u64)).max(log.first());
    let span_ms = u64::from(config.dedupe_minutes) * 60_000;
    let segments: Vec<_> = log
        .segments()
        .filter(|segment| segment.first < segment.next)
        .collect();
    let mut wanted = None;
    for segment in segments.iter().rev() {
        let began = match segment.times {
            Some((oldest, _)) => Some(oldest),
            None => next_record(log.read_from(segment.first)?)?.map(|record| record.time),
        };
        let Some(began) = began else { continue };
        let wanted = *wanted.get_or_insert(began.0.saturating_sub(span_ms));
        if segment.first <= fewest || began.0 <= wanted {
            return Ok(segment.first.max(fewest));
        }
    }
    Ok(fewest)
}

/// Returns every section that has a record, by its first one and the log time of that.
fn sections(log: &impl Log) -> Result<Vec<(Offset, UnixMs)>, StartError> {
    let mut sections = Vec::new();
    for Section { first, time } in log.sections() {
        let time = match time {
            Some(time) => Some(time),
            None => next_record(log.read_from(first)?)?.map(|record| record.time),
        };
        sections.extend(time.map(|time| (first, time)));
    }
    Ok(sections)
}

fn next_record(mut records: impl Iterator<Item = ReadRecord>) -> Result<Option<LogRecord>, StartError> {
    match records.next() {
        Some(read) => Ok(Some(decode(read)?.1)),
        None => Ok(None),
    }
}

fn decode(read: ReadRecord) -> Result<(Offset, LogRecord), StartError> {
    let (offset, bytes) = read?;
    let record = LogRecord::decode(bytes).map_err(|error| StartError::Record { offset, error })?;
    Ok((offset, record))
}

/// Records folded at once.
const REPLAY_RECORDS: usize = 1_024;
