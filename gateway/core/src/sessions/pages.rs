//! Pages of history and conversations, one at a time for each connection.
//!
//! A page may be as large as a frame, and a client may ask for many at once. The next one is asked of the router when the
//! client's socket has taken the one before, so that a client that reads is never closed for what it asked.

use std::collections::{BTreeMap, VecDeque};

use wire_base::ids::ConnectionHandle;
use wire_link::{RequestId, ToRouter};

use super::pending::Pending;
use super::uplinks::Uplinks;
use super::{Session, Sessions};
use crate::connections::Connections;
use crate::routes::RouterId;
use crate::time::Now;

/// The page requests that connections have under way.
///
/// Shape: each request here is in [`Pending`] too, whose bounds hold for both, until it is answered or its connection ends.
pub(super) struct Pages {
    turns: BTreeMap<ConnectionHandle, Turn>,
    /// When to look again at connections whose socket has not been tried yet.
    look_ms: Option<u64>,
}

/// The page requests of one connection.
struct Turn {
    /// What the router was asked; it is over when it is pending no more, however it ended.
    asked: RequestId,
    waiting: VecDeque<(RequestId, RouterId, ToRouter)>,
}

impl Pages {
    pub(super) const fn new() -> Self {
        Self {
            turns: BTreeMap::new(),
            look_ms: None,
        }
    }

    /// Asks at once where the connection has no page under way, else in its turn.
    pub(super) fn ask(
        &mut self,
        connection: ConnectionHandle,
        request: RequestId,
        router: RouterId,
        record: ToRouter,
        uplinks: &mut Uplinks,
    ) {
        match self.turns.get_mut(&connection) {
            Some(turn) => turn.waiting.push_back((request, router, record)),
            None => {
                let waiting = VecDeque::new();
                self.turns.insert(
                    connection,
                    Turn {
                        asked: request,
                        waiting,
                    },
                );
                uplinks.get_mut(router).push(&record);
            }
        }
    }

    /// Forgets what a connection that ended was still to ask. What it has asked is pending until the router answers.
    pub(super) fn handle_ended(&mut self, connection: ConnectionHandle, pending: &mut Pending) {
        let turn = self.turns.remove(&connection);
        for (request, ..) in turn.into_iter().flat_map(|turn| turn.waiting) {
            pending.take(request);
        }
    }

    pub(super) const fn next_ms(&self) -> Option<u64> {
        self.look_ms
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Asks for the next page of every connection that has taken the one before.
    fn go_on(
        &mut self,
        connections: &Connections<Session>,
        pending: &Pending,
        uplinks: &mut Uplinks,
        now: Now,
    ) {
        self.look_ms = None;
        self.turns.retain(|&id, turn| {
            if pending.holds(turn.asked) {
                return true;
            }
            // Requests that waited too long were answered, and are of no use any more.
            while turn
                .waiting
                .front()
                .is_some_and(|&(request, ..)| !pending.holds(request))
            {
                turn.waiting.pop_front();
            }
            if turn.waiting.is_empty() {
                return false;
            }
            if !connections.has_nothing_unsent(id) {
                // One that is blocked calls by itself.
                if !connections.is_blocked(id) {
                    self.look_ms = Some(now.mono_ms + LOOK_AGAIN_MS);
                }
            } else if let Some(&(_, router, _)) = turn.waiting.front()
                && uplinks.has_room(router)
                && let Some((request, _, record)) = turn.waiting.pop_front()
            {
                turn.asked = request;
                uplinks.get_mut(router).push(&record);
            }
            true
        });
    }
}

impl Sessions {
    /// See [`Pages::go_on`]; at the end of a tick.
    pub(super) fn push_pages(&mut self, connections: &Connections<Session>, now: Now) {
        self.pages
            .go_on(connections, &self.pending, &mut self.uplinks, now);
    }
}

/// What a socket makes of a send is known in the tick after it.
const LOOK_AGAIN_MS: u64 = 1;
