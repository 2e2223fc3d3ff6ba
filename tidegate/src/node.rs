//! A whole server in this process: embedded router, gateway workers, HTTP API and admin listener, put together.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use exposition::{Sample, Value};
use gateway_core::{Auth, HubConfig, Sessions, SessionsConfig};
use gateway_server::admin::{self, Admin, Readiness};
use gateway_server::descriptors::DescriptorBudget;
use gateway_server::gateway::{Gateway, Plan};
use gateway_server::{listen, process};
use router_api::{self as api, ApiConfig, ApiServer};
use router_server::embedded::{self, RouterThread};
use router_server::health::Health;
use wire_link::pipe::pipe;

use crate::auth;
use crate::settings::{AuthSettings, Settings};

/// A running server.
pub(crate) struct Node {
    /// Where each listener is, ports filled in.
    pub(crate) listen: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
    gateway: Gateway,
    router: RouterThread,
    api_server: ApiServer,
    health: Health,
    admin_thread: JoinHandle<()>,
    admin_stop: tokio::sync::oneshot::Sender<()>,
    /// Shown by the admin listener as long as the drain takes.
    draining: Arc<AtomicBool>,
}

impl Node {
    /// Starts everything: storage first, listeners that clients see last.
    ///
    /// Errors: names the setting or the directory at fault; what had started has ended again.
    pub(crate) fn start(settings: &Settings, descriptors: DescriptorBudget) -> Result<Self> {
        let verifier = auth::verifier(&settings.auth)?;
        let hub = settings.gateway.hub()?;
        // Ports that are taken are known before the store is touched.
        let api_listener = listen::bind("api.listen", settings.api.listen)?;
        let admin_listener = listen::bind("admin.listen", settings.admin.listen)?;

        let started = Instant::now();
        let now = embedded::clocks(started);
        let mut config = settings.router.clone();
        let sends_per_s = config.sends_per_s(settings.auth.insecure_dev);
        config.sends_per_s = Some(sends_per_s);
        let pipe_bytes = config.link_pipe_bytes;
        let (mut router, report) = embedded::open_data_dir(config, now)?;
        tracing::info!("{report}");
        let mut links = Vec::new();
        let workers = settings.gateway.workers();
        for _ in 0..workers {
            let (gateway_end, router_end) = pipe(pipe_bytes);
            router.add_link(router_end);
            links.push(gateway_end);
        }
        let (api_end, router_end) = pipe(pipe_bytes);
        router.add_link(router_end);
        let (health, router_metrics) = (router.health(), router.metrics());
        let router = embedded::spawn(router, started)?;

        let name = if settings.gateway.name.is_empty() {
            host_name()
        } else {
            settings.gateway.name.clone()
        };
        let epoch = now.unix.0;
        // Only who asked for a number is told that it does not fit.
        if let Some(asked) = settings.gateway.connections_max
            && let Some(shortage) = descriptors.shortage(workers, asked)
        {
            tracing::warn!("gateway.connections_max: {shortage}");
        }
        let connections_max = descriptors.connections_max(workers, hub.connections_max);
        tracing::info!("each worker takes at most {connections_max} connections");
        let plan = Plan {
            listen: settings.gateway.listen,
            listen_setting: "gateway.listen",
            workers,
            engine: settings.gateway.engine.into(),
            sockets_max: descriptors.sockets_max(workers, hub.connections_max),
            hub: HubConfig {
                connections_max,
                ..hub
            },
            coalesce: Duration::from_micros(settings.gateway.coalesce_us.into()),
            seed: seed(),
        };
        let sessions = |worker| {
            Sessions::new(SessionsConfig {
                gateway: name.clone(),
                epoch,
                worker,
                auth: verifier.clone().map_or(Auth::InsecureDev, Auth::Tokens),
                origins: settings.gateway.allowed_origins.clone(),
                sends_per_s,
            })
        };
        let gateway = Gateway::start(&plan, sessions, links)?;
        tracing::info!("{}", gateway.report());
        let auth = verifier.map_or_else(
            || api::Auth::InsecureDev {
                origins: settings.gateway.allowed_origins.clone(),
            },
            api::Auth::Tokens,
        );
        let mut api_config = ApiConfig::new(auth, name.clone(), epoch);
        api_config.connections_max = descriptors.api_connections_max(api_config.connections_max);
        tracing::info!("the memory of the API:\n{}", api_config.memory_budget());
        let api_server = api::serve(api_listener, api_end, api_config)?;
        let shown_health = health.clone();
        let readiness: Readiness = Arc::new(move || match shown_health.readiness() {
            router_server::health::Readiness::Ready => Ok(()),
            state => Err(state.to_string()),
        });
        let draining = Arc::new(AtomicBool::new(false));
        let is_draining = Arc::clone(&draining);
        let not_draining: Readiness = Arc::new(move || match is_draining.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err("draining".to_owned()),
        });
        let shown = Admin {
            metrics: vec![
                gateway.metrics(),
                Arc::new(move || router_metrics.samples()),
                process::metrics(descriptors.limit()),
                Arc::new(|| vec![build_info()]),
            ],
            readiness: vec![not_draining, readiness],
        };
        let (admin_stop, admin_stopped) = tokio::sync::oneshot::channel();
        let admin = admin_listener.local_addr()?;
        let admin_max = descriptors.admin_connections_max();
        let admin_thread = serve_admin(admin_listener, shown, admin_max, admin_stopped)?;
        Ok(Self {
            listen: gateway.address(),
            api: api_server.address(),
            admin,
            gateway,
            router,
            api_server,
            health,
            admin_thread,
            admin_stop,
            draining,
        })
    }

    /// Returns the line that says where and on what the server runs.
    pub(crate) fn ready_line(&self) -> String {
        format!(
            "ready listen={} api={} admin={} engine={} workers={}",
            self.listen,
            self.api,
            self.admin,
            self.gateway.report().engine,
            self.gateway.workers()
        )
    }

    /// Returns which part has ended that should run.
    pub(crate) fn broken_part(&self) -> Option<&'static str> {
        // The router first: its end ends the links of the others.
        let router = self.router.is_finished().then_some("the router");
        let admin = self.admin_thread.is_finished().then_some("the admin listener");
        // A link that is lost though the router runs: in one process nobody brings another.
        let lost = || {
            let is_lost = self.gateway.has_lost_link();
            is_lost.then_some("the link of a gateway worker to the router")
        };
        router
            .or_else(|| self.gateway.broken_part())
            .or_else(lost)
            .or_else(|| self.api_server.broken_part())
            .or(admin)
    }

    /// Reads the key file of the tokens again; returns the setting that names it, `None` in development mode.
    ///
    /// Errors: the file cannot be used; nothing has changed.
    pub(crate) fn reload_key(&self, settings: &AuthSettings) -> Result<Option<&'static str>> {
        let Some(verifier) = auth::verifier(settings)? else {
            return Ok(None);
        };
        self.gateway.set_verifier(&verifier);
        self.api_server.set_auth(api::Auth::Tokens(verifier));
        Ok(Some(settings.key_setting()))
    }

    /// Returns a line that says how things stand.
    pub(crate) fn state(&self) -> String {
        let state = self.broken_part().map_or_else(
            || self.health.readiness().to_string(),
            |part| format!("{part} has ended"),
        );
        let samples = self.gateway.metrics()();
        let sum = |name: &str| -> f64 {
            let gauges = samples.iter().filter(|sample| sample.name == name);
            gauges
                .map(|sample| match sample.value {
                    Value::Gauge(value) => value,
                    _ => 0.0,
                })
                .sum()
        };
        format!(
            "{state}; {} connections, {} sessions, {} bytes in outboxes",
            sum("gateway_connections"),
            sum("gateway_sessions"),
            sum("gateway_outbox_bytes")
        )
    }

    /// Ends in order: for `delay` only `/readyz` says so, then clients are told to reconnect and closed, then requests
    /// finish, then the store is synced.
    pub(crate) fn drain(self, delay: Duration) -> Result<()> {
        tracing::info!(
            "draining: not ready from now on, and going in {} ms",
            delay.as_millis()
        );
        self.draining.store(true, Ordering::Relaxed);
        std::thread::sleep(delay);
        let drained = self.gateway.drain();
        self.api_server.stop();
        self.router.stop();
        let _ = self.admin_stop.send(());
        if self.admin_thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
        drained
    }
}

fn serve_admin(
    listener: TcpListener,
    shown: Admin,
    connections_max: usize,
    stopped: tokio::sync::oneshot::Receiver<()>,
) -> Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serve = move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let stopped = async {
                // A dropped sender ends it too.
                let _ = stopped.await;
            };
            admin::serve(listener, shown, connections_max, stopped).await;
            Ok::<_, std::io::Error>(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "the admin listener cannot be used");
        }
    };
    Ok(std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(serve)?)
}

/// Which build runs: always 1, with the answer in its labels.
fn build_info() -> Sample {
    Sample {
        name: "tidegate_build_info",
        help: "Which build runs; always 1.",
        labels: vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("arch", std::env::consts::ARCH.to_owned()),
        ],
        value: Value::Gauge(1.0),
    }
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map_or_else(|_| "gateway".to_owned(), |name| name.trim().to_owned())
}

/// Where the jitter of this process begins: any number that differs between processes.
fn seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() as u64) ^ (u64::from(std::process::id()) << 32)
}
