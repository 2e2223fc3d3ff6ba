//! A node whose slots are taken and released, among others.

mod chance;
mod elsewhere;
mod logs;
mod looks;
mod slots;
mod world;
