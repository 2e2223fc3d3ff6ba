//! `tidegate serve`.

use anyhow::Result;
use gateway_server::descriptors::DescriptorBudget;

use crate::args::ServeArgs;
use crate::logging;
use crate::node::Node;
use crate::settings::Settings;
use crate::signals::Signals;

/// Serves until SIGTERM or SIGINT, then drains.
pub(super) fn run(args: &ServeArgs) -> Result<()> {
    let settings = Settings::load(args)?;
    logging::start(&settings.log)?;
    let signals = Signals::install()?;
    if settings.auth.insecure_dev {
        tracing::warn!("insecure development mode: every client is whoever it says it is");
    }
    let node = Node::start(&settings, DescriptorBudget::claim())?;
    println!("{}", node.ready_line());
    if let Some(part) = signals.wait_or(|| node.broken_part()) {
        // Half a server is worse than none: whoever supervises the process starts it again.
        anyhow::bail!("{part} has ended");
    }
    tracing::info!("draining");
    node.drain()
}
