//! A log for each partition: whoever appends does so in its own time, between the others, and may not be told the truth.

use std::collections::BTreeMap;

use bytes::Bytes;
use router_core::node::{AppendId, Appended, Group, LogFault, Offsets, Report};
use router_core::topology::PartitionId;
use router_records::log::LogRecord;
use wire_base::ids::Offset;

use super::process::{Fact, Origin};
use super::world::World;

/// All logs, and what is on its way into them.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    logs: BTreeMap<PartitionId, Vec<LogRecord>>,
    /// By when, and by order of appending.
    landings: BTreeMap<(u64, u64), Landing>,
    appends: u64,
}

/// Records that come into a log.
#[derive(Debug)]
struct Landing {
    to: PartitionId,
    records: Vec<LogRecord>,
    /// Those that come later, so that others may come in between.
    rest: Vec<LogRecord>,
    offsets: Vec<Offset>,
    /// Who is told where they are; nobody of a group that was reported as failed.
    report: Option<(Origin, AppendId)>,
}

impl Logs {
    pub(crate) fn end(&self, id: PartitionId) -> Offset {
        Offset(self.records(id).len() as u64)
    }

    pub(crate) fn records(&self, id: PartitionId) -> &[LogRecord] {
        self.logs.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (PartitionId, &[LogRecord])> {
        self.logs.iter().map(|(id, records)| (*id, records.as_slice()))
    }

    /// Returns whether something is still on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.landings.is_empty()
    }

    fn launch(&mut self, at_ms: u64, landing: Landing) {
        self.appends += 1;
        self.landings.insert((at_ms, self.appends), landing);
    }
}

impl World {
    /// Decides what becomes of a group.
    pub(crate) fn append(&mut self, origin: Origin, id: AppendId, group: &Group) {
        let records: Vec<_> = group.records().map(decode).collect();
        let max_ms = self.plan.delays.log;
        let lands_ms = self.now.mono_ms + self.rng.within(0..max_ms);
        if self.rng.percent(self.plan.rates.append_fails_percent) {
            return self.fail_append(origin, id, records, lands_ms);
        }
        let mut records = records;
        let rest = match records.len() {
            2.. if self.rng.percent(20) => {
                self.coverage.note("group that others come between");
                records.split_off(records.len() / 2)
            }
            _ => Vec::new(),
        };
        let landing = Landing {
            to: id.to(),
            records,
            rest,
            offsets: Vec::new(),
            report: Some((origin, id)),
        };
        self.logs.launch(lands_ms, landing);
    }

    /// Reports a failure; what the log has of it all the same may come later.
    fn fail_append(&mut self, origin: Origin, id: AppendId, mut records: Vec<LogRecord>, told_ms: u64) {
        let fault = match self.rng.within(0..4) {
            0 => LogFault::NoSpace,
            _ => LogFault::Failed,
        };
        self.tell(origin, told_ms, Fact::Reported(Report::Appended(id, Err(fault))));
        self.coverage.note("append failed");
        let kept = self.rng.below(records.len() + 1);
        if fault == LogFault::NoSpace || kept == 0 {
            return;
        }
        if self.rng.percent(60) {
            records.truncate(kept);
        }
        let late_ms = self.rng.pick(&[1, 100, 4_000]);
        let at_ms = self.now.mono_ms + self.rng.within(0..late_ms);
        self.coverage.note("append failed and is in the log");
        let landing = Landing {
            to: id.to(),
            records,
            rest: Vec::new(),
            offsets: Vec::new(),
            report: None,
        };
        self.logs.launch(at_ms, landing);
    }

    /// Lets everything land whose time has come.
    pub(crate) fn run_logs(&mut self) {
        while let Some(entry) = self.logs.landings.first_entry() {
            if entry.key().0 > self.now.mono_ms {
                return;
            }
            let landing = entry.remove();
            self.land(landing);
        }
    }

    fn land(&mut self, mut landing: Landing) {
        let log = self.logs.logs.entry(landing.to).or_default();
        for record in std::mem::take(&mut landing.records) {
            landing.offsets.push(Offset(log.len() as u64));
            log.push(record);
        }
        let next_ms = self.now.mono_ms + self.rng.within(0..self.plan.delays.log);
        if !landing.rest.is_empty() {
            landing.records = std::mem::take(&mut landing.rest);
            return self.logs.launch(next_ms, landing);
        }
        let Some((origin, id)) = landing.report else {
            return;
        };
        let is_run = landing.offsets.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
        self.coverage.add("group with gaps", u64::from(!is_run));
        let offsets = match landing.offsets.first() {
            Some(first) if is_run && self.rng.percent(70) => Offsets::From(*first),
            _ => Offsets::Each(landing.offsets),
        };
        let appended = Appended {
            offsets,
            log_bytes: 0,
            is_new_segment: false,
        };
        self.tell(
            origin,
            next_ms,
            Fact::Reported(Report::Appended(id, Ok(appended))),
        );
    }
}

fn decode(bytes: &[u8]) -> LogRecord {
    LogRecord::decode(Bytes::copy_from_slice(bytes)).expect("a node logs what can be read")
}
