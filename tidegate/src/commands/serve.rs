//! `tidegate serve`.

use std::time::Duration;

use anyhow::Result;
use gateway_server::descriptors::DescriptorBudget;

use crate::args::ServeArgs;
use crate::logging;
use crate::node::Node;
use crate::settings::Settings;
use crate::signals::{Asked, Signals};

/// Serves until a signal asks to end, then drains.
pub(super) fn run(args: &ServeArgs) -> Result<()> {
    #[cfg(feature = "heap-profile")]
    let heap = crate::heap_profile::start();
    let settings = Settings::load(args)?;
    logging::start(&settings.log)?;
    let signals = Signals::install()?;
    if settings.auth.insecure_dev {
        tracing::warn!("insecure development mode: every client is whoever it says it is");
    }
    let node = Node::start(&settings, DescriptorBudget::claim())?;
    println!("{}", node.ready_line());
    let serve = |asked| match asked {
        Asked::End => {}
        Asked::Reload => reload(&node, &settings),
        Asked::State => tracing::info!("SIGUSR1: {}", node.state()),
    };
    let broken = signals.wait_or(|| node.broken_part(), serve);
    #[cfg(feature = "heap-profile")]
    drop(heap); // What is in use while clients are there, not after the drain.
    if let Some(part) = broken {
        // Half a server is worse than none: whoever supervises the process starts it again.
        anyhow::bail!("{part} has ended");
    }
    node.drain(Duration::from_millis(settings.gateway.drain_delay_ms.into()))
}

/// Reads the key of the tokens again; one that cannot be used leaves the old one in force.
fn reload(node: &Node, settings: &Settings) {
    match node.reload_key(&settings.auth) {
        Ok(Some(setting)) => tracing::info!("SIGHUP: {setting} was read again, for every token from now on"),
        Ok(None) => tracing::info!("SIGHUP: there is nothing to read again"),
        Err(error) => tracing::error!("SIGHUP: the key of before stays in force: {error:#}"),
    }
}
