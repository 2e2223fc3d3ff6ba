//! What a hub wants done, and what it answers to the driver.

use bytes::Bytes;
use wire_base::ids::ConnectionHandle;
use wire_link::LinkId;

pub use crate::event::Frames;

/// An intention. The driver carries out all of them before it reports the next fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these frames. What the socket does not take stays with the transport, which says so by `handle_blocked`.
    Send {
        /// The connection.
        id: ConnectionHandle,
        /// Whole frames, or an HTTP response.
        frames: Frames,
    },
    /// End the stream to the peer behind everything that was sent, and go on reading.
    ShutdownWrite(ConnectionHandle),
    /// Close the socket, after one more try at what was to be sent before. The hub has forgotten the connection.
    Close(ConnectionHandle),
    /// Read again after [`Reading::Paused`].
    ResumeReading(ConnectionHandle),
    /// Send a batch of records to the router. A full pipe: `handle_link_refused`.
    Link {
        /// The router's link.
        link: LinkId,
        /// At most `wire_link::BATCH_BYTES_MAX`.
        batch: Bytes,
    },
    /// The router broke the format of records: close the link, then report `handle_link_down`.
    CloseLink(LinkId),
}

/// Whether a driver goes on reading a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Yes.
    Continue,
    /// Not until [`Output::ResumeReading`].
    Paused,
    /// Never again; the socket is closed, or about to be.
    Stopped,
}
