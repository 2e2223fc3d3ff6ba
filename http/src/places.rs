//! The places of a listener's connections, and who leaves so that another may come.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places of one listener.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    /// Told when a connection comes to wait for its peer.
    changed: Notify,
}

/// Connections that wait for their peers, by the turn in which they began to.
#[derive(Default)]
struct Waiting {
    turns: u64,
    by_turn: BTreeMap<u64, Arc<Notify>>,
}

/// A connection's place, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    evicted: Arc<Notify>,
    /// Its key in the table of those that wait; [`NOT_WAITING`] while the server works for it.
    turn: AtomicU64,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// Returns `count` free places.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(count)),
            waiting: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Returns a place for a new connection, which waits for its peer. Where none is free, the connection that has waited
    /// longest is told to leave; where none waits, the first that ends or waits makes room.
    pub(crate) async fn enter(self: &Arc<Self>) -> Place {
        let mut is_promised = false;
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            is_promised = is_promised || self.evict_oldest();
            tokio::select! {
                permit = Arc::clone(&self.free).acquire_owned() => {
                    break permit.expect("the semaphore is never closed");
                }
                () = self.changed.notified(), if !is_promised => {}
            }
        };
        let place = Place {
            places: Arc::clone(self),
            evicted: Arc::new(Notify::new()),
            turn: AtomicU64::new(NOT_WAITING),
            _permit: permit,
        };
        place.waits();
        place
    }

    /// Tells the connection that has waited longest to leave; returns whether there is one.
    fn evict_oldest(&self) -> bool {
        match self.waiting().by_turn.pop_first() {
            Some((_, evicted)) => {
                evicted.notify_one();
                true
            }
            None => false,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Notes that the connection waits for its peer, from now on.
    pub(crate) fn waits(&self) {
        let mut waiting = self.places.waiting();
        waiting.by_turn.remove(&self.turn.load(Ordering::Relaxed));
        waiting.turns += 1;
        let turn = waiting.turns;
        waiting.by_turn.insert(turn, Arc::clone(&self.evicted));
        self.turn.store(turn, Ordering::Relaxed);
        drop(waiting);
        self.places.changed.notify_one();
    }

    /// Notes that the server has all it needs of a request, and works on it.
    pub(crate) fn works(&self) {
        let turn = self.turn.swap(NOT_WAITING, Ordering::Relaxed);
        self.places.waiting().by_turn.remove(&turn);
    }

    /// Ends when the connection is to make room.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.works();
    }
}

/// No turn: they count from 1.
const NOT_WAITING: u64 = 0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn is_evicted(place: &Place) -> bool {
        timeout(Duration::ZERO, place.evicted()).await.is_ok()
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_makes_room() {
        let places = Places::new(2);
        let (first, second) = (places.enter().await, places.enter().await);
        // A whole request and its answer: what is older now is the other.
        first.works();
        first.waits();
        let entering = {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.enter().await })
        };
        second.evicted().await;
        assert!(!is_evicted(&first).await);
        assert!(!entering.is_finished());
        drop(second);
        entering.await.unwrap();
    }

    #[tokio::test]
    async fn who_is_worked_for_keeps_its_place_until_it_waits_again() {
        let places = Places::new(1);
        let only = places.enter().await;
        only.works();
        let entering = {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.enter().await })
        };
        for _ in 0..10 {
            tokio::task::yield_now().await;
            assert!(!is_evicted(&only).await && !entering.is_finished());
        }
        only.waits();
        only.evicted().await;
        drop(only);
        entering.await.unwrap();
    }

    #[tokio::test]
    async fn one_leaves_for_one_that_comes() {
        let places = Places::new(3);
        let held = [places.enter().await, places.enter().await, places.enter().await];
        let entering = {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.enter().await })
        };
        held[0].evicted().await;
        held[2].waits();
        tokio::task::yield_now().await;
        assert!(!is_evicted(&held[1]).await && !is_evicted(&held[2]).await);
        drop(held);
        entering.await.unwrap();
    }
}
