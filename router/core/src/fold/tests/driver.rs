//! A driver reduced to its essence.

use std::collections::BTreeMap;

use proptest::prelude::*;
use router_records::log::{Input, LogRecord};
use wire_base::ids::{MessageId, Offset, UnixMs};

use crate::dedupe::WindowConfig;
use crate::effects::{Effects, NewMessage, SendOutcome, StatusUpdate};
use crate::fold::*;
use crate::testing::{GENERATION, Tables, record, send};

/// Bounds so small that nearly everything is looked up.
pub(super) const FORGETFUL: FoldsConfig = FoldsConfig {
    conversations: ConversationConfig {
        conversations_max: 0,
        outcomes_max: 0,
        window: WindowConfig {
            span_ms: 60_000,
            ids_max: 2,
        },
    },
    inboxes: InboxConfig {
        devices_max: 8,
        users_max: 0,
    },
    receipts_max: 0,
    last_sent_max: 1,
};

/// Folds groups of records and applies their rows.
pub(super) struct Driver {
    pub(super) folds: Folds,
    pub(super) store: Tables,
    /// By offset, of every run of a record.
    pub(super) outcomes: BTreeMap<Offset, Vec<SendOutcome>>,
    pub(super) messages: Vec<NewMessage>,
    pub(super) updates: Vec<StatusUpdate>,
    pub(super) lookups: Vec<Lookup>,
}

impl Driver {
    pub(super) fn new(config: FoldsConfig) -> Self {
        Self::over(Tables::default(), config, UnixMs(0))
    }

    fn over(store: Tables, config: FoldsConfig, evicted: UnixMs) -> Self {
        Self {
            folds: Folds::new(config, GENERATION, evicted),
            store,
            outcomes: BTreeMap::new(),
            messages: Vec::new(),
            updates: Vec::new(),
            lookups: Vec::new(),
        }
    }

    /// Starts over a store that has the effects of the records before `from`, having seen the `observed` last of them.
    pub(super) fn restarted(
        store: Tables,
        config: FoldsConfig,
        log: &[LogRecord],
        from: usize,
        observed: usize,
    ) -> Self {
        let first = from.saturating_sub(observed);
        let evicted = if first == 0 {
            UnixMs(0)
        } else {
            time_at(log, first)
        };
        let mut driver = Self::over(store, config, evicted);
        // Where a record carries a clock that is behind, log time comes from before what is observed.
        driver
            .folds
            .log_time
            .advance(time_at(log, first.saturating_sub(1)));
        for (at, record) in log[..from].iter().enumerate().skip(first) {
            driver.folds.observe(Offset(at as u64), record);
        }
        driver
    }

    pub(super) fn run(&mut self, log: &[LogRecord], from: usize, groups: &[usize]) {
        let mut start = from;
        for size in groups.iter().cycle() {
            let end = (start + size).min(log.len());
            self.group(log, start..end);
            start = end;
            if start == log.len() {
                return;
            }
        }
    }

    fn group(&mut self, log: &[LogRecord], range: std::ops::Range<usize>) {
        let mut effects = Effects::default();
        for at in range.clone() {
            let offset = Offset(at as u64);
            while let Some(lookup) = self.folds.missing(offset, &log[at]) {
                self.lookups.push(lookup);
                self.folds.handle_loaded(self.store.load(lookup));
            }
            self.folds.fold(offset, &log[at], &mut effects);
            // Memory is cut while the store is still behind.
            if let Some(applied) = range.start.checked_sub(1) {
                self.folds.evict(Some(Offset(applied as u64)));
            }
        }
        effects.rows.iter().for_each(|row| self.store.write(row));
        for (offset, outcome) in effects.outcomes {
            self.outcomes.entry(offset).or_default().push(outcome);
        }
        self.messages.extend(effects.messages);
        self.updates.extend(effects.updates);
        if let Some(last) = range.last() {
            self.folds.evict(Some(Offset(last as u64)));
        }
    }

    /// Folds one record as a group of its own and returns its effects.
    pub(super) fn one(&mut self, offset: u64, time: u64, input: Input) -> Effects {
        let record = record(time, input);
        while let Some(lookup) = self.folds.missing(Offset(offset), &record) {
            self.lookups.push(lookup);
            self.folds.handle_loaded(self.store.load(lookup));
        }
        let mut effects = Effects::default();
        self.folds.fold(Offset(offset), &record, &mut effects);
        effects.rows.iter().for_each(|row| self.store.write(row));
        self.folds.evict(Some(Offset(offset)));
        effects
    }

    /// Folds a send as a record of its own.
    pub(super) fn send(
        &mut self,
        (offset, time): (u64, u64),
        (sender, receiver): (u64, u64),
        id: MessageId,
        content: &str,
    ) -> Effects {
        self.one(offset, time, Input::Send(send(sender, receiver, id, content)))
    }
}

fn time_at(log: &[LogRecord], at: usize) -> UnixMs {
    log.iter()
        .take(at + 1)
        .map(|record| record.time)
        .max()
        .unwrap_or_default()
}

pub(super) fn groups() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..9, 1..6)
}

pub(super) fn configs() -> impl Strategy<Value = FoldsConfig> {
    prop_oneof![Just(FORGETFUL), Just(FoldsConfig::default())]
}
