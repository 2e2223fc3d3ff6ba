//! What runs on the connections of a hub: the product's sessions, or the echo of conformance suites.

use bytes::Bytes;
use wire_auth::Verifier;
use wire_base::ids::ConnectionHandle;
use wire_link::LinkId;
use wire_ws::Rules;
use wire_ws::upgrade::{Refusal, Request};

use crate::connections::{Connections, SlowReaders};
use crate::disconnect::Reason;
use crate::routes::{RouterId, Routes};
use crate::time::Now;

/// An application: it gets messages, and acts through [`Connections`].
///
/// Order: `upgrade`, then messages in the order they were sent, then `handle_ended` once, whatever ended the connection.
pub trait Application {
    /// Its part of every slab entry.
    type Session: Default;
    /// What happens to clients that take less than they are sent.
    const SLOW_READERS: SlowReaders;

    /// Returns what a client's frames must keep to.
    fn rules(&self) -> Rules;

    /// Returns whether there is a WebSocket at this path.
    fn is_endpoint(&self, path: &str) -> bool;

    /// Decides about an upgrade.
    ///
    /// Errors: answered to the client by its HTTP status.
    fn upgrade(&mut self, request: &Request<'_>, now: Now) -> Result<Accepted<Self::Session>, Refusal>;

    /// Takes a text message.
    fn handle_text(
        &mut self,
        connections: &mut Connections<Self::Session>,
        id: ConnectionHandle,
        text: &str,
        now: Now,
    );

    /// Takes a binary message.
    fn handle_binary(
        &mut self,
        connections: &mut Connections<Self::Session>,
        id: ConnectionHandle,
        bytes: &[u8],
        now: Now,
    );

    /// Takes the end of a connection that was open or never became so; its session can be read one last time.
    fn handle_ended(&mut self, _: &mut Connections<Self::Session>, _: ConnectionHandle, _: Now) {}

    /// Says goodbye to a client that is about to be closed by a drain.
    fn handle_farewell(&mut self, _: &mut Connections<Self::Session>, _: ConnectionHandle, _: Now) {}

    /// Returns the application's earliest deadline of an open connection.
    fn deadline_ms(&self, _: &Connections<Self::Session>, _: ConnectionHandle, _: Now) -> Option<u64> {
        None
    }

    /// Acts on every deadline of an open connection that has passed.
    fn handle_deadline(&mut self, _: &mut Connections<Self::Session>, _: ConnectionHandle, _: Now) {}

    /// Takes an event of a link.
    fn handle_link(&mut self, _: &mut Connections<Self::Session>, _: LinkId, _: LinkEvent, _: Now) {}

    /// Takes the owner of every slot.
    fn handle_view(&mut self, _: &mut Connections<Self::Session>, _: Routes, _: Now) {}

    /// Takes back a batch that a link had no room for.
    fn handle_link_refused(&mut self, _: &mut Connections<Self::Session>, _: LinkId, _: Bytes) {}

    /// Acts on every deadline of its own that has passed.
    fn handle_timeout(&mut self, _: &mut Connections<Self::Session>, _: Now) {}

    /// Takes the key that tokens are checked with from now on.
    fn handle_verifier(&mut self, _: Verifier) {}

    /// Returns its own earliest deadline.
    fn poll_timeout(&self) -> Option<u64> {
        None
    }

    /// Completes the batch of the tick, if any.
    fn handle_tick_end(&mut self, _: &mut Connections<Self::Session>, _: Now) {}

    /// Returns the next batch for a router, unless it must wait.
    fn poll_link(&mut self, _: &mut Connections<Self::Session>) -> Option<(LinkId, Bytes)> {
        None
    }
}

/// An upgrade that an application agrees to.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The session's start.
    pub session: S,
    /// Named in the response; one of those offered.
    pub subprotocol: Option<&'static str>,
    /// Closes the connection as soon as it is open, where a browser should see the code.
    pub close: Option<Reason>,
}

/// What became of a link.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    /// It stands, and leads to this router.
    Up(RouterId),
    /// A batch came.
    Batch(Bytes),
    /// It was full and has room again.
    Room,
    /// It broke.
    Down,
}
