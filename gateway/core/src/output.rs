//! What a hub wants done, and what it answers to the driver.

use std::fmt;

use bytes::Bytes;
use wire_base::ids::ConnectionHandle;

/// One link to a router, named by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// An intention. The driver carries out all of them before it reports the next fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes. What the socket does not take comes back by `handle_send_short`.
    Send {
        /// The connection.
        id: ConnectionHandle,
        /// Whole frames, or the rest of an earlier send and what follows it.
        bytes: SendBuf,
    },
    /// End the stream to the peer, and go on reading.
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

/// Bytes to send: of one connection, or shared.
#[derive(Clone, PartialEq, Eq)]
pub enum SendBuf {
    /// To be recycled when it is sent.
    Owned(Vec<u8>),
    /// Part of a buffer that others may hold.
    Shared(Bytes),
}

impl SendBuf {
    /// Returns the bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// Returns how many bytes there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for SendBuf {
    /// Prints the length only: content belongs to users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Owned(_) => "Owned",
            Self::Shared(_) => "Shared",
        };
        write!(f, "{kind}({} bytes)", self.len())
    }
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
