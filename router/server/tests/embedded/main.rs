//! The embedded driver in virtual time, on a simulated disk and an in-memory store, seen from its links.

mod clock;
mod delivery;
mod faults;
mod gathering;
mod late_store;
mod log_space;
mod reads;
mod receipts;
mod restart;
mod retention;
mod sends;
mod world;
