//! Counters and gauges of one worker: plain numbers that the driver copies out for whoever prints them.

use crate::disconnect::Reason;

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its rate is of interest.
    Counter,
    /// The value now.
    Gauge,
}

/// One number with everything needed to print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name, with its unit last.
    pub name: &'static str,
    /// Label names and values.
    pub labels: &'static [(&'static str, &'static str)],
    /// Counter or gauge.
    pub kind: Kind,
    /// One sentence: what is counted, for `# HELP`.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}

macro_rules! stats {
    ($($field:ident: $kind:ident, $name:literal, $help:literal;)*) => {
        /// Numbers of one worker since it started.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Stats {
            $(#[doc = $help] pub $field: u64,)*
            pub(crate) closes: [u64; Reason::COUNT],
            pub(crate) refusals: [u64; REFUSAL_STATUSES.len()],
        }

        impl Stats {
            pub(crate) const fn new() -> Self {
                Self { $($field: 0,)* closes: [0; Reason::COUNT], refusals: [0; REFUSAL_STATUSES.len()] }
            }

            fn plain(&self) -> impl Iterator<Item = Metric> {
                [$(Metric { name: $name, labels: &[], kind: Kind::$kind, help: $help, value: self.$field },)*]
                    .into_iter()
            }
        }
    };
}

stats! {
    connections: Gauge, "gateway_connections", "Connections, from accept to close.";
    sessions: Gauge, "gateway_sessions", "Sessions that a router has opened.";
    connections_accepted: Counter, "gateway_connections_accepted_total", "Connections accepted.";
    connections_closed: Counter, "gateway_connections_closed_total", "Connections closed and forgotten.";
    upgrades: Counter, "gateway_upgrades_total", "Connections that became a WebSocket.";
    sessions_opened: Counter, "gateway_sessions_opened_total", "Sessions welcomed.";
    sessions_announced: Counter, "gateway_sessions_announced_total", "Sessions announced again after a broken link.";
    received_bytes: Counter, "gateway_received_bytes_total", "Bytes received.";
    discarded_bytes: Counter, "gateway_discarded_bytes_total", "Bytes received behind a close frame.";
    sent_bytes: Counter, "gateway_sent_bytes_total", "Bytes given to the transport.";
    frames_received: Counter, "gateway_frames_received_total", "Messages and control frames received.";
    frames_sent: Counter, "gateway_frames_sent_total", "Frames encoded.";
    commands: Counter, "gateway_commands_total", "Commands received.";
    bad_commands: Counter, "gateway_bad_commands_total", "Commands answered bad_request or too_long by the gateway itself.";
    events: Counter, "gateway_events_total", "Events sent to clients, of all types.";
    messages_delivered: Counter, "gateway_messages_delivered_total", "Message events sent to clients.";
    messages_repeated: Counter, "gateway_messages_repeated_total", "Deliveries dropped because the connection had the message.";
    updates_conflated: Counter, "gateway_updates_conflated_total", "Status updates that took the place of an earlier one which had not left.";
    events_dropped: Counter, "gateway_events_dropped_total", "Typing and presence events dropped because their client, or the worker, had too much waiting.";
    batches_sent: Counter, "gateway_batches_sent_total", "Frames that carried two or more events.";
    sends: Counter, "gateway_sends_queued_total", "Buffers given to the transport.";
    sends_short: Counter, "gateway_sends_returned_total", "Times a socket did not take all that the transport held for it.";
    pings_sent: Counter, "gateway_pings_sent_total", "Pings sent.";
    outbox_bytes: Gauge, "gateway_outbox_bytes", "Bytes waiting for clients, what sockets did not take among them.";
    input_bytes: Gauge, "gateway_input_bytes", "Bytes of incomplete messages and of input that waits.";
    pending: Gauge, "gateway_pending_requests", "Commands without an answer from the router.";
    pending_timeouts: Counter, "gateway_pending_timeouts_total", "Commands answered unavailable because no answer came in time.";
    answers_late: Counter, "gateway_answers_late_total", "Answers of the router that nobody waited for any more.";
    busy: Counter, "gateway_busy_total", "Commands answered busy.";
    pauses: Counter, "gateway_pauses_total", "Times a connection was no longer read because the router, or its own answers, were behind.";
    link_batches_sent: Counter, "gateway_link_batches_sent_total", "Batches given to the link.";
    link_batches_refused: Counter, "gateway_link_batches_refused_total", "Batches that the full link gave back.";
    link_batches_received: Counter, "gateway_link_batches_received_total", "Batches received from the link.";
    link_batches_bad: Counter, "gateway_link_batches_bad_total", "Batches from the link that broke the format.";
    link_bytes: Gauge, "gateway_link_bytes", "Bytes waiting for the link.";
    links_up: Gauge, "gateway_links_up", "Links to routers that stand.";
    link_breaks: Counter, "gateway_link_breaks_total", "Links that broke.";
}

/// The statuses that refuse an upgrade; the last counts any other.
const REFUSAL_STATUSES: [(u16, &[(&str, &str)]); 9] = [
    (400, &[("status", "400")]),
    (401, &[("status", "401")]),
    (403, &[("status", "403")]),
    (404, &[("status", "404")]),
    (405, &[("status", "405")]),
    (426, &[("status", "426")]),
    (431, &[("status", "431")]),
    (503, &[("status", "503")]),
    (0, &[("status", "other")]),
];

impl Stats {
    /// Returns every metric.
    ///
    /// Order: the same order and number at every call, so that a driver may copy values by index.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> {
        let closes = Reason::ALL.iter().zip(self.closes).map(|(reason, value)| Metric {
            name: "gateway_closes_total",
            labels: reason.labels(),
            kind: Kind::Counter,
            help: "Ends of connections, by reason and side at fault.",
            value,
        });
        let refusals = REFUSAL_STATUSES
            .iter()
            .zip(self.refusals)
            .map(|(&(_, labels), value)| Metric {
                name: "gateway_upgrades_refused_total",
                labels,
                kind: Kind::Counter,
                help: "Upgrades refused, by HTTP status.",
                value,
            });
        self.plain().chain(closes).chain(refusals)
    }

    /// Returns how many connections ended for a reason.
    pub fn closes(&self, reason: Reason) -> u64 {
        self.closes[reason as usize]
    }

    /// Returns how many connections ended.
    pub fn closes_total(&self) -> u64 {
        self.closes.iter().sum()
    }

    /// Returns how many upgrades were refused with an HTTP status.
    pub fn refusals(&self, status: u16) -> u64 {
        self.refusals[refusal_index(status)]
    }

    pub(crate) fn count_close(&mut self, reason: Reason) {
        self.closes[reason as usize] += 1;
    }

    pub(crate) fn count_refusal(&mut self, status: u16) {
        self.refusals[refusal_index(status)] += 1;
    }
}

fn refusal_index(status: u16) -> usize {
    REFUSAL_STATUSES
        .iter()
        .position(|&(known, _)| known == status)
        .unwrap_or(REFUSAL_STATUSES.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_counters_end_in_total() {
        let stats = Stats::new();
        let mut seen = Vec::new();
        for metric in stats.metrics() {
            assert!(metric.name.starts_with("gateway_"));
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert!(!seen.contains(&(metric.name, metric.labels)), "{metric:?}");
            seen.push((metric.name, metric.labels));
        }
    }

    #[test]
    fn closes_and_refusals_are_counted_by_label() {
        let mut stats = Stats::new();
        stats.count_close(Reason::Replaced);
        stats.count_refusal(404);
        stats.count_refusal(418);
        let labels = |labels: &[(&str, &str)]| {
            stats
                .metrics()
                .find(|metric| metric.labels == labels)
                .unwrap()
                .value
        };
        assert_eq!(labels(&[("reason", "replaced"), ("side", "client")]), 1);
        assert_eq!(labels(&[("status", "404")]), 1);
        assert_eq!(labels(&[("status", "other")]), 1);
        assert_eq!((stats.closes_total(), stats.refusals(404)), (1, 1));
    }
}
