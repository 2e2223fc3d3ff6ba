//! `loadtest chat`: clients log in, write to each other on a fixed schedule, and every message is checked.

mod population;
mod session;

use std::sync::Arc;

use population::{Chat, Outcome, Talk};

use crate::audit::judge;
use crate::clock::Ns;
use crate::error::RunError;
use crate::identity::CONTENT_BYTES_MIN;
use crate::login::{self, Login};
use crate::plan::{Pairing, Plan, block};
use crate::report::{Asked, Report};
use crate::run::{Crew, conduct};
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::units::Rate;
use wire_base::limits::CONTENT_CHARS_MAX;
use wire_base::random::mix;

/// What a chat run does.
#[derive(Clone, Debug)]
pub struct Options {
    /// What all modes have in common.
    pub settings: Settings,
    /// Who the clients are.
    pub login: Login,
    /// Messages a second, over all clients (default 1,000).
    pub rate: Rate,
    /// Who writes to whom (default random couples).
    pub pairs: Pairing,
    /// Size of a message's content, at least 47 (default 64).
    pub payload_bytes: usize,
    /// Sends a connection may have unanswered; one more is a missed send (default 64).
    pub in_flight_max: usize,
}

impl Options {
    /// Returns the defaults.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            login: Login::default(),
            rate: Rate::per_second(1000).expect("1,000 is a rate"),
            pairs: Pairing::Random,
            payload_bytes: 64,
            in_flight_max: 64,
        }
    }

    fn check(&self) -> Result<(), RunError> {
        self.settings.check()?;
        self.login.check(self.settings.conns)?;
        if self.settings.conns < 2 {
            return Err(RunError::usage("--conns", "a chat needs at least 2"));
        }
        if !(CONTENT_BYTES_MIN..=CONTENT_CHARS_MAX).contains(&self.payload_bytes) {
            let reason = format!("{CONTENT_BYTES_MIN} to {CONTENT_CHARS_MAX}");
            return Err(RunError::usage("--payload-bytes", reason));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight_max) {
            return Err(RunError::usage("--in-flight", format!("1 to {IN_FLIGHT_MAX}")));
        }
        Ok(())
    }
}

/// Runs it; `on_progress` is called on this thread, every `progress_every`.
///
/// Shape: one thread a worker besides this one, which mostly sleeps.
/// Errors: there is no result; everything that can be said about the target is in the [`Report`], also that it is down.
pub fn run(options: &Options, mut on_progress: impl FnMut(&Snapshot) + Send) -> Result<Report, RunError> {
    options.check()?;
    let settings = &options.settings;
    let plan = Arc::new(Plan::new(settings.conns, options.pairs, settings.seed));
    let crew = Crew {
        settings,
        path: login::PATH,
        subprotocols: login::SUBPROTOCOLS,
    };
    let mut run_id = 0;
    let conducted = conduct(&crew, &mut on_progress, |course, clock| {
        run_id = mix(settings.seed ^ clock.unix(Ns(0)).0) as u32;
        let talk = Arc::new(Talk {
            plan: Arc::clone(&plan),
            login: options.login.clone(),
            run: run_id,
            payload_bytes: options.payload_bytes,
            in_flight_max: options.in_flight_max,
            measured: settings.measured(),
            course: Arc::clone(course),
            clock: *clock,
        });
        (0..settings.workers)
            .map(|worker| {
                let clients = block(settings.conns, settings.workers, worker);
                let own = plan.outgoing_of(&clients);
                let pairs = plan.pairs().len() as u32;
                let schedule = Schedule::new(pairs, &own, options.rate, settings.length(), settings.seed);
                Chat::new(Arc::clone(&talk), &clients, schedule, settings.seed)
            })
            .collect()
    })?;
    let (outcomes, summary) = conducted.split();
    let mut ledgers = Vec::new();
    let mut unknown = Vec::new();
    let mut live = Vec::new();
    for Outcome {
        ledger,
        unknown: unanswered,
        live: still,
    } in outcomes
    {
        ledgers.push(ledger);
        unknown.extend(unanswered);
        live.extend(still);
    }
    let is_live = |client: u32| live.get(client as usize) == Some(&true);
    let audit = judge(ledgers, &mut unknown, is_live, summary.is_cut_short);
    let asked = Asked {
        rate: Some(options.rate.as_per_second()),
        payload_bytes: options.payload_bytes,
        pairs: Some(options.pairs),
        in_flight: Some(options.in_flight_max as u64),
        window: Some(options.login.window),
        ..Asked::of(settings)
    };
    Report::new("chat", settings, asked, summary, Some(audit)).written(settings)
}

/// More would not be a chat.
const IN_FLIGHT_MAX: usize = 100_000;
