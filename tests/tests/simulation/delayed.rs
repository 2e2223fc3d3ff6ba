//! Disks that take their time: jobs wait, reports wait, and answers overtake each other, as the seed says.

use std::collections::VecDeque;

use router_server::embedded::{Disks, Done, LogJob, StoreDone, StoreJob};
use wire_base::ids::Offset;

use crate::rng::Rng;

/// Does the jobs of log and store some other time, each in its order, and reports answers in any.
pub(crate) struct Delayed<B> {
    inner: B,
    rng: Rng,
    log: VecDeque<LogJob>,
    store: VecDeque<StoreJob>,
    /// Done and not reported: answers may be taken from anywhere, the others from the front.
    done: Vec<Done>,
    /// Of a hundred looks, in how many nothing happens.
    patience: u64,
}

impl<B: Disks> Delayed<B> {
    pub(crate) fn new(inner: B, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let patience = rng.pick(&[0, 20, 50, 80]);
        Self {
            inner,
            rng,
            log: VecDeque::new(),
            store: VecDeque::new(),
            done: Vec::new(),
            patience,
        }
    }

    fn work(&mut self) {
        if self.rng.percent(self.patience) {
            return;
        }
        let is_log = !self.log.is_empty() && (self.store.is_empty() || self.rng.percent(50));
        if is_log && let Some(job) = self.log.pop_front() {
            self.inner.submit_log(job);
        } else if let Some(job) = self.store.pop_front() {
            self.inner.submit_store(job);
        }
        self.done.extend(std::iter::from_fn(|| self.inner.poll_done()));
    }
}

impl<B: Disks> Disks for Delayed<B> {
    fn submit_log(&mut self, job: LogJob) {
        self.log.push_back(job);
    }

    fn submit_store(&mut self, job: StoreJob) {
        self.store.push_back(job);
    }

    fn poll_done(&mut self) -> Option<Done> {
        self.work();
        if self.done.is_empty() || self.rng.percent(self.patience) {
            return None;
        }
        let at = self.rng.below(self.done.len());
        let is_answer = matches!(self.done[at], Done::Store(StoreDone::Answered(..)));
        Some(self.done.remove(if is_answer { at } else { 0 }))
    }

    fn has_done(&self) -> bool {
        !self.log.is_empty() || !self.store.is_empty() || !self.done.is_empty()
    }

    fn close(self, complete: Option<Option<Offset>>) {
        self.inner.close(complete);
    }

    fn is_crashed(&self) -> bool {
        self.inner.is_crashed()
    }
}
