//! Log and store on two threads that run when the seed says so, in place of [`router_server::embedded::Threads`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use router_core::node::Report;
use router_server::embedded::{Disks, LogJob, StoreJob};
use wire_base::ids::Offset;

use crate::watch::Watch;

/// Who does the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    Log,
    Store,
}

impl Thread {
    pub(crate) const ALL: [Self; 2] = [Self::Log, Self::Store];
}

/// What the two threads have to do and have done; clones share it, so that the machine steps what its router gives jobs.
pub(crate) struct Stepped<B>(Rc<RefCell<Work<B>>>);

struct Work<B> {
    /// Does each job at once.
    inner: Option<B>,
    /// Knows whether the machine is up.
    watch: Watch,
    log: VecDeque<LogJob>,
    store: VecDeque<StoreJob>,
    /// Not yet reported, in the order of the threads.
    done: VecDeque<Report>,
}

impl<B> Clone for Stepped<B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<B: Disks> Stepped<B> {
    pub(crate) fn new(inner: B, watch: Watch) -> Self {
        Self(Rc::new(RefCell::new(Work {
            inner: Some(inner),
            watch,
            log: VecDeque::new(),
            store: VecDeque::new(),
            done: VecDeque::new(),
        })))
    }

    /// Returns how many jobs a thread has.
    pub(crate) fn jobs(&self, thread: Thread) -> usize {
        let work = self.0.borrow();
        match thread {
            Thread::Log => work.log.len(),
            Thread::Store => work.store.len(),
        }
    }

    /// Lets a thread do its next job.
    pub(crate) fn step(&self, thread: Thread) {
        self.0.borrow_mut().step(thread);
    }
}

impl<B: Disks> Work<B> {
    fn step(&mut self, thread: Thread) {
        let Some(inner) = &mut self.inner else { return };
        match thread {
            Thread::Log => self
                .log
                .pop_front()
                .into_iter()
                .for_each(|job| inner.submit_log(job)),
            Thread::Store => self
                .store
                .pop_front()
                .into_iter()
                .for_each(|job| inner.submit_store(job)),
        }
        self.done.extend(std::iter::from_fn(|| inner.poll_done()));
    }
}

impl<B: Disks> Disks for Stepped<B> {
    fn submit_log(&mut self, job: LogJob) {
        self.0.borrow_mut().log.push_back(job);
    }

    fn submit_store(&mut self, job: StoreJob) {
        self.0.borrow_mut().store.push_back(job);
    }

    fn poll_done(&mut self) -> Option<Report> {
        self.0.borrow_mut().done.pop_front()
    }

    fn has_done(&self) -> bool {
        !self.0.borrow().done.is_empty()
    }

    fn close(self, complete: Option<Option<Offset>>) {
        let mut work = self.0.borrow_mut();
        while !(work.log.is_empty() && work.store.is_empty()) {
            work.step(Thread::Log);
            work.step(Thread::Store);
        }
        if let Some(inner) = work.inner.take() {
            inner.close(complete);
        }
    }

    fn is_crashed(&self) -> bool {
        !self.0.borrow().watch.is_up()
    }
}
