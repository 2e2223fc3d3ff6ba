//! Puts a thread between those who write and a store, so that nobody waits for an LSM tree that turns its tables over.
//!
//! What is written was in the log before, so that a store may be behind it: a crash is the same to a batch that waits
//! here and to one that the disk has not got. What is read is never behind: a read first waits until everything handed
//! over was written.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use router_records::row::{
    CheckpointRow, ConversationRow, DedupeRow, DeviceRow, InboxRow, MessageRow, ReceiptRow, Row,
    UserConversationRow,
};
use wire_base::ids::{ConversationId, DeviceId, MessageId, Offset, Position, Seq, UserId};

use super::{IndexKey, MessagePage, Store, StoreError};

/// A [`Store`] whose batches are written by a thread of its own.
///
/// Shape: when 32 MiB of rows wait, a writer waits too.
/// Errors: a batch that could not be written stays first in line, and fails every call until it is. Reads do not try it
/// again; [`Store::settle`] does, and so does each write before it is taken itself.
pub struct WriteBehind<S> {
    shared: Arc<Shared<S>>,
    /// As of everything handed over.
    flushed: Option<Offset>,
    generation: u32,
    prune_floor: Offset,
    checkpoint_end: Option<Offset>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<S> {
    queue: Mutex<Queue>,
    /// Something for the thread to do.
    work: Condvar,
    /// The thread did something.
    done: Condvar,
    /// Locked by the thread while it writes, by readers only when nothing waits.
    store: Mutex<S>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Of the batches among them, and of the one that is being written.
    bytes: usize,
    is_working: bool,
    is_thread_waiting: bool,
    is_ending: bool,
    /// Why the first batch could not be written. Nothing is done until it is to be tried again.
    error: Option<StoreError>,
    persisted: Option<Result<Option<Offset>, StoreError>>,
    /// For their memory.
    spare: Vec<Vec<Row>>,
}

enum Job {
    Apply {
        rows: Vec<Row>,
        bytes: usize,
        flushed: Offset,
    },
    Persist,
}

impl<S: Store + Send + 'static> WriteBehind<S> {
    /// Returns the store behind a thread.
    ///
    /// Errors: those of starting one.
    pub fn start(store: S) -> std::io::Result<Self> {
        let (flushed, generation, prune_floor) = (store.flushed(), store.generation(), store.prune_floor());
        let checkpoint_end = store.checkpoint_end();
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            store: Mutex::new(store),
        });
        let its = shared.clone();
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || its.work())?;
        Ok(Self {
            shared,
            flushed,
            generation,
            prune_floor,
            checkpoint_end,
            thread: Some(thread),
        })
    }

    /// Returns the store once nothing waits for it.
    fn settled(&self) -> Result<MutexGuard<'_, S>, StoreError> {
        let mut queue = self.shared.queue();
        loop {
            if let Some(error) = &queue.error {
                return Err(again(error));
            }
            if queue.is_idle() {
                return Ok(lock(&self.shared.store));
            }
            queue = wait(&self.shared.done, queue);
        }
    }

    fn read<T>(&self, read: impl FnOnce(&S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        read(&*self.settled()?)
    }

    fn write<T>(&mut self, write: impl FnOnce(&mut S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.try_again();
        write(&mut *self.settled()?)
    }

    /// Has the first batch tried again if it failed.
    fn try_again(&self) {
        let mut queue = self.shared.queue();
        if queue.error.take().is_some() {
            self.shared.wake(&mut queue);
        }
    }
}

impl<S: Store> Shared<S> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    fn wake(&self, queue: &mut Queue) {
        // A wake-up is a system call, and a busy thread needs none.
        if std::mem::take(&mut queue.is_thread_waiting) {
            self.work.notify_one();
        }
    }

    fn work(&self) {
        let mut queue = self.queue();
        loop {
            let job = if queue.error.is_none() {
                queue.jobs.pop_front()
            } else {
                None
            };
            let Some(job) = job else {
                if queue.is_ending {
                    return;
                }
                queue.is_thread_waiting = true;
                queue = wait(&self.work, queue);
                continue;
            };
            queue.is_working = true;
            drop(queue);
            // Whoever waits must not wait for ever for a thread that panicked.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.run(&job)));
            let outcome = outcome.unwrap_or_else(|_| Err(StoreError::Failed("it panicked".into())));
            queue = self.queue();
            queue.is_working = false;
            queue.finish(job, outcome);
            self.done.notify_all();
        }
    }

    fn run(&self, job: &Job) -> Result<Option<Offset>, StoreError> {
        let mut store = lock(&self.store);
        match job {
            Job::Apply { rows, flushed, .. } => store.apply(rows, *flushed)?,
            Job::Persist => store.persist()?,
        }
        Ok(store.flushed())
    }
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && !self.is_working
    }

    fn finish(&mut self, job: Job, outcome: Result<Option<Offset>, StoreError>) {
        match (job, outcome) {
            (Job::Persist, outcome) => self.persisted = Some(outcome),
            (job, Err(error)) => {
                tracing::warn!(%error, "the store could not write a batch; the log has its records");
                self.jobs.push_front(job);
                self.error = Some(error);
            }
            (Job::Apply { mut rows, bytes, .. }, Ok(_)) => {
                self.bytes -= bytes;
                rows.clear();
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(rows);
                }
            }
        }
    }
}

impl<S> Drop for WriteBehind<S> {
    /// Writes what waits, unless it cannot be written.
    fn drop(&mut self) {
        lock(&self.shared.queue).is_ending = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<S: Store + Send + 'static> Store for WriteBehind<S> {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn flushed(&self) -> Option<Offset> {
        self.flushed
    }

    fn prune_floor(&self) -> Offset {
        self.prune_floor
    }

    fn conversation(&self, conversation: ConversationId) -> Result<Option<ConversationRow>, StoreError> {
        self.read(|store| store.conversation(conversation))
    }

    fn index(
        &self,
        message_id: MessageId,
        sender: UserId,
        conversation: ConversationId,
    ) -> Result<Option<DedupeRow>, StoreError> {
        self.read(|store| store.index(message_id, sender, conversation))
    }

    fn index_by_message(&self, message_id: MessageId, limit: usize) -> Result<Vec<DedupeRow>, StoreError> {
        self.read(|store| store.index_by_message(message_id, limit))
    }

    fn message(&self, conversation: ConversationId, seq: Seq) -> Result<Option<MessageRow>, StoreError> {
        self.read(|store| store.message(conversation, seq))
    }

    fn messages_before(
        &self,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<MessagePage, StoreError> {
        self.read(|store| store.messages_before(conversation, before, limit, bytes_max))
    }

    fn receipt(&self, conversation: ConversationId, user: UserId) -> Result<Option<ReceiptRow>, StoreError> {
        self.read(|store| store.receipt(conversation, user))
    }

    fn user_conversations(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<UserConversationRow>, StoreError> {
        self.read(|store| store.user_conversations(user, after, limit))
    }

    fn inbox_after(
        &self,
        user: UserId,
        position: Position,
        limit: usize,
    ) -> Result<Vec<InboxRow>, StoreError> {
        self.read(|store| store.inbox_after(user, position, limit))
    }

    fn inbox_first(&self, user: UserId) -> Result<Option<InboxRow>, StoreError> {
        self.read(|store| store.inbox_first(user))
    }

    fn inbox_last(&self, user: UserId) -> Result<Option<InboxRow>, StoreError> {
        self.read(|store| store.inbox_last(user))
    }

    fn device(&self, user: UserId, device: DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        self.read(|store| store.device(user, device))
    }

    fn devices(&self, user: UserId) -> Result<Vec<DeviceRow>, StoreError> {
        self.read(|store| store.devices(user))
    }

    fn checkpoints(&self) -> Result<Vec<CheckpointRow>, StoreError> {
        self.read(|store| store.checkpoints())
    }

    fn apply(&mut self, rows: &[Row], flushed: Offset) -> Result<(), StoreError> {
        self.hand_over(&mut rows.to_vec(), flushed)
    }

    fn hand_over(&mut self, rows: &mut Vec<Row>, flushed: Offset) -> Result<(), StoreError> {
        if self.pending_error().is_some() {
            self.settle()?;
        }
        let bytes = rows.iter().map(row_bytes).sum();
        let mut queue = self.shared.queue();
        while queue.bytes >= BYTES_MAX && queue.error.is_none() {
            queue = wait(&self.shared.done, queue);
        }
        if let Some(error) = &queue.error {
            return Err(again(error));
        }
        let empty = queue.spare.pop().unwrap_or_default();
        let rows = std::mem::replace(rows, empty);
        queue.bytes += bytes;
        queue.jobs.push_back(Job::Apply { rows, bytes, flushed });
        self.shared.wake(&mut queue);
        drop(queue);
        self.flushed = Some(flushed);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.write(|_| Ok(()))
    }

    fn pending_error(&self) -> Option<StoreError> {
        self.shared.queue().error.as_ref().map(again)
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.write(Store::probe)
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.write(Store::persist)
    }

    fn begin_persist(&mut self) {
        let mut queue = self.shared.queue();
        queue.jobs.push_back(Job::Persist);
        self.shared.wake(&mut queue);
    }

    fn poll_persisted(&mut self) -> Option<Result<Option<Offset>, StoreError>> {
        self.shared.queue().persisted.take()
    }

    fn checkpoint_end(&self) -> Option<Offset> {
        self.checkpoint_end
    }

    fn complete_checkpoint(&mut self) -> Result<(), StoreError> {
        self.checkpoint_end = self.write(|store| {
            store.complete_checkpoint()?;
            Ok(store.checkpoint_end())
        })?;
        Ok(())
    }

    fn prune_inbox(
        &mut self,
        below: Offset,
        from: Option<UserId>,
        rows_max: usize,
    ) -> Result<Option<UserId>, StoreError> {
        let step = self.write(|store| Ok((store.prune_inbox(below, from, rows_max), store.prune_floor())));
        let (step, prune_floor) = step?;
        self.prune_floor = prune_floor;
        step
    }

    fn prune_messages(
        &mut self,
        below: Offset,
        from: Option<(ConversationId, Seq)>,
        rows_max: usize,
    ) -> Result<Option<(ConversationId, Seq)>, StoreError> {
        self.write(|store| store.prune_messages(below, from, rows_max))
    }

    fn prune_index(
        &mut self,
        below: Offset,
        from: Option<IndexKey>,
        rows_max: usize,
    ) -> Result<Option<IndexKey>, StoreError> {
        self.write(|store| store.prune_index(below, from, rows_max))
    }

    fn prune_checkpoints(&mut self, below: Offset) -> Result<(), StoreError> {
        self.write(|store| store.prune_checkpoints(below))
    }
}

/// Returns an error that was told before.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::NoSpace => StoreError::NoSpace,
        StoreError::Crashed => StoreError::Crashed,
        StoreError::Stopped { reopens, source } => StoreError::Stopped {
            reopens: *reopens,
            source: source.to_string().into(),
        },
        error => StoreError::Failed(error.to_string().into()),
    }
}

/// Returns about what a row takes while it waits.
fn row_bytes(row: &Row) -> usize {
    let body = match row {
        Row::Message(row) => row.message.body.len(),
        _ => 0,
    };
    size_of::<Row>() + body
}

/// Locks; what a panic of the store leaves behind the store answers for itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Rows that may wait, about: a body keeps the link batch it came in. It bounds memory, and how long a writer does not feel that the store stands still. fjall stands still while
/// it syncs its journal before it turns a memtable over: 0.26 s were seen with 64 MiB of it, at 30,000 messages/s.
const BYTES_MAX: usize = 32 << 20;
const SPARE_MAX: usize = 4;
