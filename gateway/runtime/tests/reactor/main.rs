//! What a reactor promises, proved on both engines through real sockets.

mod harness;

mod accepting;
mod closing;
mod coalescing;
mod connecting;
mod events;
mod overflow;
mod refusal;
mod sending;
mod waking;
