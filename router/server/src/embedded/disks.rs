//! Where the work on log and store is done: at once, or on a thread for each.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle, Thread};

use crossbeam_queue::SegQueue;
use router_storage::log::Log;
use router_storage::store::Store;
use wire_base::ids::Offset;

use super::log_worker::{LogDone, LogJob, LogWorker};
use super::store_worker::{StoreDone, StoreJob, StoreWorker};

/// Log and store, as the driver sees them: jobs go in, reports come out.
///
/// Order: the jobs of each are done in the order they are given; between the two there is none.
pub trait Disks {
    /// Gives the log something to do.
    fn submit_log(&mut self, job: LogJob);

    /// Gives the store something to do.
    fn submit_store(&mut self, job: StoreJob);

    /// Returns what came of a job.
    fn poll_done(&mut self) -> Option<Done>;

    /// Returns whether [`Disks::poll_done`] has something.
    fn has_done(&self) -> bool;

    /// Does everything that was given, and syncs the store so that the next start has nothing to replay. It is complete when it
    /// has everything through `complete`; `None`: it is not known to be.
    fn close(self, complete: Option<Option<Offset>>);

    /// Returns whether the machine under them went down, which only the driver of a simulated one outlives.
    fn is_crashed(&self) -> bool {
        false
    }
}

/// What came of a job.
#[derive(Debug)]
pub enum Done {
    /// Of the log.
    Log(LogDone),
    /// Of the store.
    Store(StoreDone),
}

/// Does each job when it is given.
pub struct Inline<L, S> {
    pub(super) log: LogWorker<L>,
    pub(super) store: StoreWorker<S>,
    done: VecDeque<Done>,
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
        self.done.push_back(Done::Log(self.log.run(job)));
    }

    fn submit_store(&mut self, job: StoreJob) {
        let Self { store, done, .. } = self;
        store.run(job, &mut |of_store| done.push_back(Done::Store(of_store)));
    }

    fn poll_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    fn close(mut self, complete: Option<Option<Offset>>) {
        self.store.close(complete);
    }
}

/// Does the jobs of each on a thread of its own, and wakes the driver when something is done.
pub struct Threads {
    log: Option<mpsc::Sender<LogJob>>,
    store: Option<mpsc::Sender<StoreThreadJob>>,
    done: Arc<Finished>,
    /// How the store is to be closed, once it is.
    complete: Option<Option<Option<Offset>>>,
    threads: Vec<JoinHandle<()>>,
}

enum StoreThreadJob {
    Run(StoreJob),
    /// See [`Disks::close`].
    Close(Option<Option<Offset>>),
}

/// What the threads report, and whom they wake.
struct Finished {
    done: SegQueue<Done>,
    driver: Thread,
}

impl Finished {
    fn push(&self, done: Done) {
        self.done.push(done);
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
        let (log_jobs, jobs) = mpsc::channel();
        let of_log = Arc::clone(&finished);
        let log_thread = thread::Builder::new().name("log".into()).spawn(move || {
            for job in jobs {
                of_log.push(Done::Log(log.run(job)));
            }
        })?;
        let (store_jobs, jobs) = mpsc::channel();
        let of_store = Arc::clone(&finished);
        let store_thread = thread::Builder::new().name("store".into()).spawn(move || {
            for job in jobs {
                match job {
                    StoreThreadJob::Run(job) => store.run(job, &mut |done| of_store.push(Done::Store(done))),
                    StoreThreadJob::Close(complete) => store.close(complete),
                }
            }
        })?;
        Ok(Self {
            log: Some(log_jobs),
            store: Some(store_jobs),
            done: finished,
            complete: None,
            threads: vec![log_thread, store_thread],
        })
    }
}

impl Disks for Threads {
    fn submit_log(&mut self, job: LogJob) {
        if let Some(log) = &self.log {
            let _ = log.send(job); // A thread that panicked is noticed as a router that stands still.
        }
    }

    fn submit_store(&mut self, job: StoreJob) {
        if let Some(store) = &self.store {
            let _ = store.send(StoreThreadJob::Run(job));
        }
    }

    fn poll_done(&mut self) -> Option<Done> {
        self.done.done.pop()
    }

    fn has_done(&self) -> bool {
        !self.done.done.is_empty()
    }

    fn close(mut self, complete: Option<Option<Offset>>) {
        self.complete = Some(complete);
    }
}

impl Drop for Threads {
    /// Does everything that was given, and ends the threads.
    fn drop(&mut self) {
        if let Some((complete, store)) = self.complete.take().zip(self.store.as_ref()) {
            let _ = store.send(StoreThreadJob::Close(complete));
        }
        self.log = None;
        self.store = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
