//! The connection layer, with the echo on it.

mod closing;
mod deadlines;
mod drain;
mod echo;
mod slow;
mod upgrade;

use wire_ws::Opcode;

use crate::config::HubConfig;
use crate::disconnect::Reason;
use crate::echo::{Echo, EchoConfig};
use crate::testing::{Client, Seen, World, frame};

/// A worker that echoes, with a product's limits.
fn echo(config: HubConfig) -> World<Echo> {
    World::new(config, Echo::new(EchoConfig::default()))
}

fn text(text: &str) -> Vec<u8> {
    frame(Opcode::Text, text.as_bytes())
}

/// Checks that every connection has gone, each for a reason, and that nothing is held for any.
fn assert_all_ended(world: &World<Echo>) {
    let stats = world.hub.stats();
    assert_eq!(world.hub.connections(), 0);
    assert_eq!(stats.closes_total(), stats.connections_accepted);
    assert_eq!(
        (stats.connections, stats.outbox_bytes, stats.input_bytes),
        (0, 0, 0)
    );
    assert_eq!(stats.connections_accepted, stats.connections_closed);
}

fn only_reason(world: &World<Echo>, reason: Reason) {
    assert_eq!(
        (world.hub.stats().closes(reason), world.hub.stats().closes_total()),
        (1, 1),
        "{reason:?}"
    );
}

fn seen(client: &mut Client) -> Vec<Seen> {
    client.seen.drain(..).collect()
}
