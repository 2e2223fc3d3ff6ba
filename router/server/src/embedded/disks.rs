//! Where the work on log and store is done: at once, or on a thread for each.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle, Thread};

use crossbeam_queue::SegQueue;
use router_core::node::Report;
use router_storage::background::give_way;
use router_storage::log::Log;
use router_storage::store::Store;
use wire_base::ids::Offset;

use super::log_worker::{LogJob, LogWorker};
use super::store_worker::{StoreJob, StoreWorker};

/// Log and store, as the driver sees them: jobs go in, reports come out.
///
/// Order: the jobs of each are done in the order they are given; between the two there is none.
pub trait Disks {
    /// Gives the log something to do.
    fn submit_log(&mut self, job: LogJob);

    /// Gives the store something to do.
    fn submit_store(&mut self, job: StoreJob);

    /// Returns what came of a job.
    fn poll_done(&mut self) -> Option<Report>;

    /// Returns whether [`Disks::poll_done`] has something.
    fn has_done(&self) -> bool;

    /// Does everything that was given, and syncs the store so that the next start has nothing to replay. It is complete when it
    /// has everything through `complete`; `None`: it is not known to be.
    fn close(mut self, complete: Option<Option<Offset>>)
    where
        Self: Sized,
    {
        self.submit_store(StoreJob::Close(complete));
    }

    /// Returns whether the machine under them went down, which only the driver of a simulated one outlives.
    fn is_crashed(&self) -> bool {
        false
    }
}

/// Does each job when it is given.
pub struct Inline<L, S> {
    pub(super) log: LogWorker<L>,
    pub(super) store: StoreWorker<S>,
    done: VecDeque<Report>,
}

impl<L: Log, S: Store> Inline<L, S> {
    pub(super) fn new(log: LogWorker<L>, store: StoreWorker<S>) -> Self {
        Self {
            log,
            store,
            done: VecDeque::new(),
        }
    }
}

impl<L: Log, S: Store> Disks for Inline<L, S> {
    fn submit_log(&mut self, job: LogJob) {
        self.done.push_back(self.log.run(job));
    }

    fn submit_store(&mut self, job: StoreJob) {
        let Self { store, done, .. } = self;
        store.run(job, &mut |report| done.push_back(report));
    }

    fn poll_done(&mut self) -> Option<Report> {
        self.done.pop_front()
    }

    fn has_done(&self) -> bool {
        !self.done.is_empty()
    }
}

/// Does the jobs of each on a thread of its own, and wakes the driver when something is done. Dropped, it waits until everything
/// that was given is.
pub struct Threads {
    log: Worker<LogJob>,
    store: Worker<StoreJob>,
    finished: Arc<Finished>,
}

/// What the threads report, and whom they wake.
struct Finished {
    done: SegQueue<Report>,
    driver: Thread,
}

impl Finished {
    fn push(&self, report: Report) {
        self.done.push(report);
        self.driver.unpark();
    }
}

impl Threads {
    /// Starts the threads; they wake `driver`.
    ///
    /// Shape: their queues are bounded by what the node has under way: one group, the rows it allows to wait, its questions.
    /// Errors: those of starting a thread.
    pub(super) fn start<L, S>(inline: Inline<L, S>, driver: Thread) -> io::Result<Self>
    where
        L: Log + 'static,
        S: Store + Send + 'static,
    {
        let Inline {
            mut log,
            mut store,
            done,
        } = inline;
        let finished = Arc::new(Finished {
            done: SegQueue::new(),
            driver,
        });
        done.into_iter().for_each(|done| finished.push(done));
        let (of_log, of_store) = (Arc::clone(&finished), Arc::clone(&finished));
        Ok(Self {
            log: Worker::start("log", || {}, move |job| of_log.push(log.run(job)))?,
            store: Worker::start("store", give_way, move |job| {
                store.run(job, &mut |report| of_store.push(report));
            })?,
            finished,
        })
    }
}

impl Disks for Threads {
    fn submit_log(&mut self, job: LogJob) {
        self.log.submit(job);
    }

    fn submit_store(&mut self, job: StoreJob) {
        self.store.submit(job);
    }

    fn poll_done(&mut self) -> Option<Report> {
        self.finished.done.pop()
    }

    fn has_done(&self) -> bool {
        !self.finished.done.is_empty()
    }
}

/// A thread that does jobs in their order. Dropped, it waits until all are done.
struct Worker<J> {
    /// `None` once there are no more.
    jobs: Option<mpsc::Sender<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Worker<J> {
    /// `prepare` is called on the thread before the first job.
    fn start(name: &str, prepare: fn(), mut run: impl FnMut(J) + Send + 'static) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel();
        let work = move || {
            prepare();
            jobs.into_iter().for_each(&mut run);
        };
        Ok(Self {
            jobs: Some(sender),
            thread: Some(thread::Builder::new().name(name.into()).spawn(work)?),
        })
    }

    fn submit(&self, job: J) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job); // A thread that panicked is noticed as a router that stands still.
        }
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
