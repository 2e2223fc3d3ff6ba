//! What a reader tolerates.

use wire_base::limits::FRAME_BYTES_MAX;

/// Which end of the connection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads frames of a client, which must be masked.
    Server,
    /// Reads frames of a server, which must not be.
    Client,
}

/// Bounds of a [`super::Reader`], shared by every connection of a listener.
///
/// Shape: a connection holds at most `message_bytes_max` bytes of an incomplete message, and a small constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Decides whether frames must or must not be masked.
    pub role: Role,
    /// Largest payload of one frame; larger is [`super::Violation::FrameTooBig`] from the header alone.
    pub frame_bytes_max: usize,
    /// Largest message, summed over its fragments; larger is [`super::Violation::MessageTooBig`] from the header alone.
    pub message_bytes_max: usize,
    /// Most frames of one message, at least 1. Bounds the work an endless row of tiny fragments can cause.
    pub fragments_max: u32,
    /// Whether there are binary messages; without, the first frame of one is [`super::Violation::BinaryMessage`] from the
    /// header alone.
    pub takes_binary: bool,
}

impl Rules {
    /// Returns the rules for a client's frames, with the sizes of docs/protocol.md section 1.
    pub const fn server() -> Self {
        Self::of(Role::Server)
    }

    /// Returns the same rules for a server's frames.
    pub const fn client() -> Self {
        Self::of(Role::Client)
    }

    const fn of(role: Role) -> Self {
        Self {
            role,
            frame_bytes_max: FRAME_BYTES_MAX,
            message_bytes_max: FRAME_BYTES_MAX,
            fragments_max: FRAGMENTS_MAX,
            takes_binary: true,
        }
    }
}

/// Default of [`Rules::fragments_max`]: the largest message in fragments of 128 bytes.
const FRAGMENTS_MAX: u32 = 1_024;
const _: () = assert!(FRAGMENTS_MAX as usize * 128 >= FRAME_BYTES_MAX);
