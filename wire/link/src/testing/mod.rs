//! What tests of ports and of their drivers share: the contract of [`crate::port`], and a link that fails as it is told.

pub mod contract;
mod faulty;

pub use faulty::{Faults, FaultyPort, Side, faulty_pipe};
