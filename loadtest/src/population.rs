//! The seam between the driver, which knows sockets and WebSocket, and the modes, which know what clients do.
//!
//! A mode is one [`Population`]: it takes facts about its clients and answers through a [`Peer`]. A new mode (storm,
//! slow readers, bad clients) is a new implementation; the driver stays as it is.

use crate::clock::Ns;
use crate::course::Phase;
use crate::driver::{Clients, Peer};
use crate::funnel::Ending;
use crate::traffic::Traffic;

/// What the clients of one worker do.
pub(crate) trait Population {
    /// What is kept for each client, across its reconnects.
    type Session: Default;
    /// What a worker hands back when the run is over.
    type Outcome: Send;

    /// The upgrade succeeded; the client may speak.
    fn handle_open(&mut self, peer: &mut Peer<'_, Self::Session>, now: Ns);

    /// A whole message arrived. Pings and close frames are the driver's business.
    fn handle_message(&mut self, peer: &mut Peer<'_, Self::Session>, message: Message<'_>, now: Ns);

    /// Everything that had arrived is handled: the moment to answer it all at once.
    fn handle_read_end(&mut self, peer: &mut Peer<'_, Self::Session>, now: Ns);

    /// The connection is over, or an attempt to come back failed. `session` stays for the next one.
    fn handle_loss(
        &mut self,
        session: &mut Self::Session,
        traffic: &mut Traffic,
        ending: &Ending,
        now: Ns,
    ) -> Next;

    /// The moment for everything that is due by the clock.
    fn handle_tick(&mut self, clients: &mut Clients<Self::Session>, phase: Phase, now: Ns);

    /// Returns when `handle_tick` has something to do next; `None` when only a fact can change that.
    fn poll_timeout(&self) -> Option<Ns>;

    /// Returns whether nothing is left to send.
    fn is_exhausted(&self) -> bool;

    /// The run is over; connections are still open, and the tool is about to close them.
    fn handle_finish(&mut self, clients: &Clients<Self::Session>);

    /// Hands the results back.
    fn finish(self, clients: Clients<Self::Session>) -> Self::Outcome;
}

/// A message of the target.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// What becomes of a client that lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It stays away.
    GiveUp,
    /// It connects again then.
    ReconnectAt(Ns),
}
