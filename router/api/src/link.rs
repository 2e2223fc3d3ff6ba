//! The API's end of its link: questions go out in batches, answers find their asker by request id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use wire_link::codec::{BatchWriter, decode_from_router};
use wire_link::port::SendError;
use wire_link::{FromRouter, LinkHello, LinkPort, RequestId, ToRouter};

/// Asks the router and waits for its answer; clones share one link.
#[derive(Clone)]
pub(super) struct LinkClient {
    shared: Arc<Shared>,
    in_flight_max: usize,
    timeout: Duration,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskError {
    /// It was not asked: too many others wait.
    Busy,
    /// It was asked; the answer did not come in time, or the link broke.
    NoAnswer,
    /// It was not asked: the link is down.
    Down,
}

struct Shared {
    state: Mutex<State>,
    /// Set when a question was queued, and when the link has an answer or room again.
    wake: Notify,
}

struct State {
    outgoing: BatchWriter,
    waiting: HashMap<RequestId, oneshot::Sender<FromRouter>>,
    next_request: u64,
    is_down: bool,
}

impl LinkClient {
    /// Returns a client whose first record is `hello`, and the task that moves its batches through `port`.
    pub(super) fn new<P: LinkPort>(
        port: P,
        hello: LinkHello,
        in_flight_max: usize,
        timeout: Duration,
    ) -> (Self, impl Future<Output = ()> + Send + use<P>) {
        let mut outgoing = BatchWriter::new();
        outgoing.push_to_router(&ToRouter::Hello(hello));
        let state = State {
            outgoing,
            waiting: HashMap::new(),
            next_request: 1,
            is_down: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
        });
        shared.wake.notify_one();
        (
            Self {
                shared: shared.clone(),
                in_flight_max,
                timeout,
            },
            carry(port, shared),
        )
    }

    /// Returns whether the router has closed the link, which it never does while it runs.
    pub(super) fn is_down(&self) -> bool {
        self.shared.lock().is_down
    }

    /// Asks one question and waits for the answer to it.
    ///
    /// Errors: see [`AskError`]; only `NoAnswer` leaves it open whether the router acted.
    pub(super) async fn ask(
        &self,
        question: impl FnOnce(RequestId) -> ToRouter,
    ) -> Result<FromRouter, AskError> {
        let (answer, waiter) = oneshot::channel();
        let guard = {
            let mut state = self.shared.lock();
            if state.is_down {
                return Err(AskError::Down);
            }
            if state.waiting.len() >= self.in_flight_max || state.outgoing.is_full() {
                return Err(AskError::Busy);
            }
            let request = RequestId(state.next_request);
            state.next_request += 1;
            state.outgoing.push_to_router(&question(request));
            state.waiting.insert(request, answer);
            Waiting {
                shared: &self.shared,
                request,
            }
        };
        self.shared.wake.notify_one();
        let answered = tokio::time::timeout(self.timeout, waiter).await;
        drop(guard);
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(AskError::NoAnswer),
        }
    }
}

/// Forgets a question when its asker goes, answered or not; a late answer is then dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    request: RequestId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.request);
    }
}

/// Moves batches both ways until the router closes the link.
async fn carry(mut port: impl LinkPort, shared: Arc<Shared>) {
    let waker = shared.clone();
    port.set_waker(Arc::new(move || waker.wake.notify_one()));
    let mut refused: Option<Bytes> = None;
    while exchange(&mut port, &shared, &mut refused).is_some() {
        shared.wake.notified().await;
    }
    let mut state = shared.lock();
    state.is_down = true;
    state.waiting.clear(); // Dropping a sender tells its asker that no answer will come.
}

/// Takes every answer there is and gives the link what it takes; `None` when it is down.
fn exchange(port: &mut impl LinkPort, shared: &Shared, refused: &mut Option<Bytes>) -> Option<()> {
    while let Some(batch) = port.try_recv().ok()? {
        for record in decode_from_router(batch) {
            match record {
                Ok(record) => shared.answer(record),
                Err(error) => {
                    tracing::error!(%error, "the router sent the API a record it cannot read");
                    return None;
                }
            }
        }
    }
    let batch = match refused.take() {
        Some(batch) => batch,
        None => {
            let mut state = shared.lock();
            if state.outgoing.is_empty() {
                return Some(());
            }
            state.outgoing.take()
        }
    };
    match port.try_send(batch) {
        // What was queued while an earlier batch was refused goes at the next turn.
        Ok(()) => {
            if !shared.lock().outgoing.is_empty() {
                shared.wake.notify_one();
            }
            Some(())
        }
        Err(SendError::Full(batch)) => {
            *refused = Some(batch);
            Some(())
        }
        Err(SendError::Closed(_)) => None,
    }
}

impl Shared {
    fn answer(&self, record: FromRouter) {
        let Some(request) = request_of(&record) else {
            return;
        };
        if let Some(waiter) = self.lock().waiting.remove(&request) {
            // The asker may have gone in this moment; then nobody wants the answer.
            let _ = waiter.send(record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and every field is whole between two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns which question a record answers; sessions and deliveries answer none, and an API link has none.
fn request_of(record: &FromRouter) -> Option<RequestId> {
    match record {
        FromRouter::Sent(it) => Some(it.request),
        FromRouter::Rejected(it) => Some(it.request),
        FromRouter::HistoryPage(it) => Some(it.request),
        FromRouter::ConversationsPage(it) => Some(it.request),
        FromRouter::Done(request) => Some(*request),
        FromRouter::Failed(it) => Some(it.request),
        FromRouter::SessionOpened(_)
        | FromRouter::SessionRefused(_)
        | FromRouter::SessionReplaced(_)
        | FromRouter::Deliver(_)
        | FromRouter::Synced(_)
        | FromRouter::StatusUpdate(_) => None,
    }
}
