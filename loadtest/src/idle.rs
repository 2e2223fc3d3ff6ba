//! `loadtest idle`: clients log in, answer pings and stay, so that their cost at the target can be measured.

use std::time::Duration;

use wire_client::Event;
use wire_client::json::parse_events;

use crate::clock::{Clock, Ns};
use crate::course::Phase;
use crate::driver::{Clients, Peer};
use crate::error::RunError;
use crate::funnel::Ending;
use crate::login::{self, Login};
use crate::population::{Message, Next, Population};
use crate::report::{Asked, Report};
use crate::run::{Crew, conduct};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::traffic::Traffic;

/// What an idle run does.
#[derive(Clone, Debug)]
pub struct Options {
    /// What all modes have in common.
    pub settings: Settings,
    /// Who the clients are.
    pub login: Login,
}

impl Options {
    /// Returns the defaults.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            login: Login::default(),
        }
    }
}

/// Runs it; see [`crate::chat::run`].
pub fn run(options: &Options, mut on_progress: impl FnMut(&Snapshot) + Send) -> Result<Report, RunError> {
    let settings = &options.settings;
    settings.check()?;
    options.login.check(settings.conns)?;
    let crew = Crew {
        settings,
        path: login::PATH,
        subprotocols: login::SUBPROTOCOLS,
    };
    let conducted = conduct(&crew, &mut on_progress, |_, clock| {
        (0..settings.workers)
            .map(|_| Idle {
                login: options.login.clone(),
                clock: *clock,
            })
            .collect()
    })?;
    let (_, summary) = conducted.split();
    let asked = Asked {
        window: Some(options.login.window),
        ..Asked::of(settings)
    };
    Report::new("idle", settings, asked, summary, None).written(settings)
}

struct Idle {
    login: Login,
    clock: Clock,
}

impl Population for Idle {
    /// Whether `welcome` has come.
    type Session = bool;
    type Outcome = ();

    fn handle_open(&mut self, peer: &mut Peer<'_, bool>, now: Ns) {
        *peer.session = false;
        self.login.say_hello(peer, None, self.clock.unix(now));
    }

    fn handle_message(&mut self, peer: &mut Peer<'_, bool>, message: Message<'_>, now: Ns) {
        let Message::Text(text) = message else {
            return peer.abandon(Ending::BadEvent("a binary message".to_owned()));
        };
        let parsed = parse_events(text, &mut |event| match event {
            Event::Welcome(_) => {
                *peer.session = true;
                peer.reach_welcome(now);
            }
            Event::Synced(_) => peer.become_live(now),
            Event::Error(failure) if !*peer.session => peer.abandon(Ending::Refused(failure.code)),
            Event::Error(failure) => peer.count_error(failure.code.name()),
            _ => {}
        });
        if let Err(bad) = parsed {
            peer.abandon(Ending::BadEvent(bad.reason));
        }
    }

    fn handle_read_end(&mut self, _peer: &mut Peer<'_, bool>, _now: Ns) {}

    fn handle_loss(&mut self, _: &mut bool, _: &mut Traffic, ending: &Ending, now: Ns) -> Next {
        match ending {
            Ending::Closed { code, .. } if !login::may_reconnect(*code) => Next::GiveUp,
            _ => Next::ReconnectAt(now + RECONNECT_AFTER),
        }
    }

    fn handle_tick(&mut self, _clients: &mut Clients<bool>, _phase: Phase, _now: Ns) {}

    fn poll_timeout(&self) -> Option<Ns> {
        None
    }

    fn is_exhausted(&self) -> bool {
        true
    }

    fn handle_finish(&mut self, _clients: &Clients<bool>) {}

    fn finish(self, _clients: Clients<bool>) {}
}

const RECONNECT_AFTER: Duration = Duration::from_secs(1);
