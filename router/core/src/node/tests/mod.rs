//! A node whose slots are taken and released, among others.

mod logs;
mod slots;
mod world;
