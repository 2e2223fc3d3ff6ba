//! RFC 6455 for both roles: frames in, messages out, and the other way round.
//!
//! Reading order:
//! 1. `header`: the first 2 to 14 bytes of a frame, and every rule that they alone decide.
//! 2. `reader`: [`Reader`] turns received bytes into [`Item`]s; a whole frame is unmasked in place and never copied.
//! 3. `partial`: what a connection holds while a frame or a message is incomplete; `utf8` checks text as it arrives.
//! 4. `close` and `violation`: why a connection ends. `encode` and `mask`: frames to send.
//! 5. [`upgrade`]: the HTTP/1.1 handshake before the first frame.
//!
//! Invariants: an idle connection holds 8 bytes; memory grows with the bytes that arrived, never with a declared length;
//! the verdict about any stream of bytes does not depend on how it was cut into reads; after a [`Violation`] or a close
//! frame nothing more is parsed. Deliberately absent: extensions (permessage-deflate is not negotiated), pings, timeouts.
//!
//! ```
//! # use wire_ws::{Input, Item, Reader, Rules};
//! # let mut received = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
//! let rules = Rules::server();
//! let mut reader = Reader::new();
//! let mut input = Input::new(&mut received);
//! while let Some(item) = reader.next(&mut input, &rules)? {
//!     assert_eq!(item, Item::Text("Hello"));
//! }
//! # Ok::<(), wire_ws::Violation>(())
//! ```

mod close;
mod encode;
mod header;
mod mask;
mod partial;
mod reader;
mod rules;
mod utf8;
mod violation;

pub mod upgrade;

#[cfg(test)]
mod tests;

pub use close::{CloseFrame, is_close_code};
pub use encode::{encode_close, encode_fragment, encode_frame, encode_header};
pub use header::{HEADER_BYTES_MAX, Header, Opcode};
pub use mask::mask;
pub use reader::{Input, Item, Reader};
pub use rules::{Role, Rules};
pub use violation::Violation;
