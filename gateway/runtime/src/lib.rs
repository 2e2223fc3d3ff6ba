//! The threads, sockets and clocks of Tidegate: the only crate that talks to io_uring, and the only one with `unsafe`.
//!
//! Reading order:
//! 1. [`reactor`]: the contract of an I/O engine: [`Reactor`], [`Event`], [`SendBuf`].
//! 2. [`engine`]: how one is chosen and opened: [`open`].
//! 3. `socket_core` and `accepting`: what both engines do alike; `sockets`: what they keep per connection, 12 bytes.
//! 4. [`uring`] and [`poll`]: the two engines. [`probe`]: whether the first works here.
//! 5. [`waker`] and [`mod@mailbox`]: how threads reach a worker. [`worker`], [`listen`], [`descriptors`],
//!    [`clock`]: what a driver needs besides.
//!
//! Invariants:
//! - A reactor stays on the thread that opened it. Nothing in it is locked or shared but its [`Waker`].
//! - No event of a socket appears after `close`; a slot gets a new generation with each use.
//! - Both engines post the same events for the same happenings; the tests in `tests/` run on both.
//! - Every queue is bounded: events by the number of sockets, sockets by `sockets_max`, spare buffers in bytes, mailboxes in
//!   items.
//!
//! Deliberately absent: any protocol, any timer but the timeout of `wait`, raw descriptors in the interface (which would
//! break once each worker has a descriptor table of its own).

mod accepting;
mod buffers;
pub mod clock;
mod coalesce;
pub mod descriptors;
pub mod engine;
pub mod listen;
pub mod mailbox;
pub mod poll;
pub mod probe;
pub mod reactor;
mod socket_core;
mod sockets;
pub mod uring;
pub mod waker;
pub mod worker;

pub use clock::Clock;
pub use engine::{AnyReactor, Engine, EngineChoice, OpenError, Report, UnknownEngine, open};
pub use listen::ListenerBuilder;
pub use mailbox::{Mailbox, MailboxSender, mailbox};
pub use reactor::{ConnectionHandle, Event, Reactor, ReactorConfig, ReactorStats, SendBuf};
pub use waker::Waker;
