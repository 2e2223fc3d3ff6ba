//! Which deadlines apply to a connection, and what follows when one has passed.
//!
//! A connection has one place in the timer wheel, for the earliest deadline that applied when it was set. When that
//! fires, whatever has passed by then is acted upon, and the earliest that applies now is set. So a deadline that moves
//! away (a client that is heard) costs nothing.

use wire_base::ids::ConnectionHandle;
use wire_ws::Opcode;

use super::{Conn, Connections, Phase};
use crate::disconnect::Reason;
use crate::limits::{
    CLOSE_MS_MAX, MESSAGE_MS_MAX, PING_JITTER_DIVISOR, PINGS_MISSED_MAX, PROGRESS_MS_MAX, UPGRADE_MS_MAX,
};
use crate::time::{Now, Stamp};

/// The deadlines of the connection layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The HTTP request must be complete.
    Upgrade,
    /// The socket is closed whatever the peer does.
    Close,
    /// The message must be complete.
    Message,
    /// Unsent bytes must have moved.
    Progress,
    /// The client is pinged, or given up.
    Ping,
}

impl<S> Connections<S> {
    /// Acts on every deadline that has passed.
    pub(crate) fn handle_deadlines(&mut self, id: ConnectionHandle, now: Now) {
        while let Some((_, deadline)) = self
            .next_deadline(id, now)
            .filter(|&(at_ms, _)| at_ms <= now.mono_ms)
        {
            match deadline {
                Deadline::Upgrade => self.end(id, Reason::UpgradeTimeout),
                Deadline::Close => self.end(id, Reason::ClientLeft),
                Deadline::Message => self.close(id, Reason::MessageTimeout, now),
                Deadline::Progress => self.close(id, Reason::SlowProgress, now),
                Deadline::Ping => self.ping(id, now),
            }
        }
    }

    /// Returns the earliest deadline of the connection layer.
    pub(crate) fn next_deadline(&self, id: ConnectionHandle, now: Now) -> Option<(u64, Deadline)> {
        let conn = self.get(id)?;
        match conn.phase {
            Phase::Upgrading => Some((conn.since.after_ms(UPGRADE_MS_MAX, now), Deadline::Upgrade)),
            Phase::Closing => Some((conn.since.after_ms(CLOSE_MS_MAX, now), Deadline::Close)),
            Phase::Closed => None,
            Phase::Open => {
                let message = (conn.reader.is_partial() && conn.pauses.is_empty()).then(|| {
                    (
                        conn.partial_since.after_ms(MESSAGE_MS_MAX, now),
                        Deadline::Message,
                    )
                });
                let progress = conn
                    .outbox
                    .as_ref()
                    .filter(|outbox| outbox.is_blocked())
                    .map(|outbox| {
                        (
                            outbox.progress().after_ms(PROGRESS_MS_MAX, now),
                            Deadline::Progress,
                        )
                    });
                let ping = self.ping_ms(id, conn, now).map(|at_ms| (at_ms, Deadline::Ping));
                [message, progress, ping]
                    .into_iter()
                    .flatten()
                    .min_by_key(|&(at_ms, _)| at_ms)
            }
        }
    }

    /// Returns when a silent client is pinged next, or given up.
    fn ping_ms(&self, id: ConnectionHandle, conn: &Conn<S>, now: Now) -> Option<u64> {
        let interval_ms = u64::from(self.config.ping_interval_ms);
        if interval_ms == 0 {
            return None;
        }
        // A client that is not read, or does not read, has other deadlines.
        let cannot_tell =
            !conn.pauses.is_empty() || conn.outbox.as_ref().is_some_and(|outbox| outbox.is_blocked());
        if cannot_tell {
            return Some(now.mono_ms + interval_ms);
        }
        let jitter_ms = match conn.pings_missed {
            0 => self.jitter.of(id, interval_ms / PING_JITTER_DIVISOR),
            _ => 0,
        };
        Some(conn.quiet_since.after_ms(interval_ms - jitter_ms, now))
    }

    /// Pings a silent client, or gives it up.
    ///
    /// Order: each ping has a whole interval to be answered, however late this is called.
    fn ping(&mut self, id: ConnectionHandle, now: Now) {
        let Some(conn) = self.get_mut(id) else { return };
        if conn.pings_missed >= PINGS_MISSED_MAX {
            self.close(id, Reason::PingTimeout, now);
            return;
        }
        conn.pings_missed += 1;
        conn.quiet_since = Stamp::of(now);
        self.stats.pings_sent += 1;
        self.queue_unbounded(id, |outbox| outbox.push_frame(Opcode::Ping, b""));
    }
}
