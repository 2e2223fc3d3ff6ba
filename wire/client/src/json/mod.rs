//! JSON text form of the client protocol (subprotocol `tidegate.json.v1`).
//!
//! Server role: [`parse_frame`] takes commands apart, [`encode_event`] puts events together. Client role (feature `client`):
//! `encode_request` and `parse_events`. Objects that are already encoded are joined to a batch by [`crate::Format`].
//!
//! Reading order: `object` (an object's fields, parsed one by one, so that every fault names its field), `parse_commands`,
//! `parse_events`; `write` (JSON text), `encode_events`, `encode_commands`.
//!
//! Rules of reading: unknown fields are ignored, `null` is an absent field, of a repeated field the last counts. Hostile
//! nesting costs no stack: a field is skipped over before it is parsed, and each parser knows how deep it goes.

#[cfg(feature = "client")]
mod encode_commands;
mod encode_events;
mod object;
mod parse_commands;
#[cfg(feature = "client")]
mod parse_events;
mod write;

#[cfg(feature = "client")]
pub use encode_commands::encode_request;
pub(crate) use encode_events::MESSAGE_CURSOR_AT;
pub use encode_events::encode_event;
pub use parse_commands::{BadCommand, BadKind, FrameKind, parse_frame};
#[cfg(feature = "client")]
pub use parse_events::{BadEvent, parse_events};

/// What a batch frame starts with.
pub(crate) const BATCH_OPEN: &[u8] = br#"{"type":"batch","messages":["#;
/// What stands between two objects of a batch frame.
pub(crate) const BATCH_SEPARATOR: &[u8] = b",";
/// What a batch frame ends with.
pub(crate) const BATCH_CLOSE: &[u8] = b"]}";

#[cfg(test)]
mod tests;
