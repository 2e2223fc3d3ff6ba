//! `tidegate echo`: the engine and the RFC 6455 code with an echo in place of sessions.

use std::time::Duration;

use anyhow::Result;
use gateway_core::{Echo, EchoConfig, HubConfig};
use gateway_server::config::EngineSetting;
use gateway_server::descriptors::DescriptorBudget;
use gateway_server::gateway::{Gateway, Plan};

use crate::args::EchoArgs;
use crate::exit::Usage;
use crate::logging;
use crate::settings::LogSettings;
use crate::signals::Signals;

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(args: &EchoArgs) -> Result<()> {
    if !args.listen.ip().is_loopback() && !args.allow_public {
        let text = format!(
            "--listen: {} is not a loopback address; --allow-public permits it",
            args.listen
        );
        return Err(Usage(text).into());
    }
    logging::start(&LogSettings::default())?;
    let signals = Signals::install()?;
    let largest = usize::try_from(args.message_bytes_max).unwrap_or(usize::MAX);
    let hub = HubConfig::echo();
    let workers = if args.workers > 0 {
        args.workers
    } else {
        gateway_server::config::cores()
    };
    let plan = Plan {
        listen: args.listen,
        listen_setting: "--listen",
        workers,
        engine: EngineSetting::from(args.engine).into(),
        sockets_max: DescriptorBudget::claim().sockets_max(workers, hub.connections_max),
        hub,
        coalesce: Duration::ZERO, // What it is measured for is one message at a time.
        seed: 0,
    };
    let gateway: Gateway = Gateway::start(
        &plan,
        |_| {
            Echo::new(EchoConfig {
                message_bytes_max: largest,
            })
        },
        Vec::new(),
    )?;
    tracing::info!("{}", gateway.report());
    println!(
        "ready listen={} engine={} workers={workers}",
        gateway.address(),
        gateway.report().engine
    );
    signals.wait();
    gateway.stop()
}
