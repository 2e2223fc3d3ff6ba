//! A report as a page of text. The last line is always the same shape, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt;

use super::Report;
use crate::audit::Audit;
use crate::measure::Latency;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_heading(f)?;
        self.write_connects(f)?;
        if self.mode != "idle" {
            self.write_traffic(f)?;
        }
        if let Some(audit) = &self.audit {
            write_audit(f, audit)?;
        }
        writeln!(
            f,
            "generator    {:.2} cores, loop lag p99 {}, slip p99 {}, {:.3} % of the schedule missed",
            self.generator.cpu_cores,
            Us(self.generator.loop_lag_us.p99),
            Us(self.generator.slip_us.p99),
            self.generator.missed_share * 100.0,
        )?;
        for reason in &self.verdict.reasons {
            writeln!(f, "  ! {reason}")?;
        }
        write!(f, "{}", self.final_line())
    }
}

impl Report {
    /// Returns the last line: rate asked and achieved, latency from the intended send time, defects, verdict.
    pub fn final_line(&self) -> String {
        let asked = self
            .asked
            .rate
            .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}/s"));
        let felt = self.felt();
        let none = Audit::default();
        let audit = self.audit.as_ref().unwrap_or(&none);
        format!(
            "result asked={asked} achieved={:.0}/s p50={} p99={} p99.9={} max={} lost={} dup={} reordered={} verdict={}",
            self.achieved.accepted_per_s,
            Us(felt.p50),
            Us(felt.p99),
            Us(felt.p999),
            Us(felt.max),
            audit.lost,
            audit.duplicates + audit.repeats_live,
            audit.reordered,
            self.verdict.outcome.name(),
        )
    }

    fn write_heading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = &self.asked;
        let load = match (asked.rate, asked.in_flight) {
            (Some(rate), _) => format!(", {rate:.0} messages/s of {} bytes", asked.payload_bytes),
            (None, Some(messages)) => {
                format!(", {messages} messages of {} bytes in flight", asked.payload_bytes)
            }
            (None, None) => String::new(),
        };
        let engine = self.engine.unwrap_or("none");
        writeln!(
            f,
            "{} {}: {} connections{load}, {:.0} s",
            self.mode, self.target, asked.conns, asked.duration_s
        )?;
        writeln!(
            f,
            "tool         engine {engine}, {} workers, seed {}",
            asked.workers, asked.seed
        )
    }

    fn write_connects(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connects = &self.connects;
        writeln!(
            f,
            "connections  {} of {} live at the end, {} attempts, {} reconnects",
            connects.live_at_end, self.asked.conns, connects.attempts, connects.reconnects
        )?;
        for (stage, times) in [
            ("tcp", connects.tcp_us),
            ("101", connects.upgrade_us),
            ("welcome", connects.welcome_us),
            ("live", connects.live_us),
        ] {
            if times.count > 0 {
                let (p50, p99, max) = (Us(times.p50), Us(times.p99), Us(times.max));
                writeln!(f, "  {stage:<10} p50 {p50:<9} p99 {p99:<9} max {max}")?;
            }
        }
        write_counts(f, "failed", &connects.failures)?;
        write_counts(f, "lost", &connects.losses)?;
        write_counts(f, "errors", &connects.errors)
    }

    fn write_traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traffic = &self.traffic;
        writeln!(
            f,
            "messages     {} scheduled, {} sent, {} answered, {} refused, {} retried, {} delivered",
            traffic.scheduled,
            traffic.sent,
            traffic.accepted,
            traffic.refused,
            traffic.retried,
            traffic.delivered
        )?;
        if traffic.missed() > 0 {
            writeln!(
                f,
                "  missed     {} too many in flight, {} offline, {} too late",
                traffic.missed_in_flight_full, traffic.missed_offline, traffic.missed_late
            )?;
        }
        for (name, latency) in [
            ("ack", &self.ack_us),
            ("service", &self.service_us),
            ("delivery", &self.delivery_us),
        ] {
            if latency.count > 0 {
                writeln!(f, "  {name:<10} {}", Spread(latency))?;
            }
        }
        writeln!(
            f,
            "rate         {:.1} answers/s, {:.1} deliveries/s",
            self.achieved.accepted_per_s, self.achieved.delivered_per_s
        )
    }
}

fn write_audit(f: &mut fmt::Formatter<'_>, audit: &Audit) -> fmt::Result {
    writeln!(
        f,
        "audit        {} of {} pairs judged, {} conversations: {} lost, {} duplicates, {} reordered, {} ghosts, {} gaps",
        audit.pairs_judged,
        audit.pairs,
        audit.conversations_judged,
        audit.lost,
        audit.duplicates,
        audit.reordered,
        audit.ghosts,
        audit.gaps
    )?;
    let rest = [
        ("mismatched", audit.mismatched),
        ("damaged", audit.damaged),
        ("cursor regressions", audit.cursor_regressions),
        ("repeats", audit.repeats_live),
        ("repeats after reconnect", audit.repeats_resumed),
        ("late retries", audit.late_retries),
        ("foreign", audit.foreign),
        ("unknown", audit.unknown),
    ];
    let rest: BTreeMap<String, u64> = rest
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| (what.to_owned(), count))
        .collect();
    write_counts(f, "also", &rest)
}

fn write_counts(f: &mut fmt::Formatter<'_>, what: &str, counts: &BTreeMap<String, u64>) -> fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = counts
        .iter()
        .map(|(label, count)| format!("{label} {count}"))
        .collect();
    writeln!(f, "  {what:<10} {}", list.join(", "))
}

/// A time in microseconds, in the unit that reads best.
pub(crate) struct Us(pub(crate) f64);

impl fmt::Display for Us {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            us if us < 1_000.0 => format!("{us:.1}us"),
            us if us < 1_000_000.0 => format!("{:.2}ms", us / 1_000.0),
            us => format!("{:.2}s", us / 1_000_000.0),
        };
        f.pad(&text)
    }
}

struct Spread<'a>(&'a Latency);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency {
            p50,
            p90,
            p95,
            p99,
            p999,
            max,
            count,
            ..
        } = *self.0;
        write!(
            f,
            "p50 {:<9} p90 {:<9} p95 {:<9} p99 {:<9} p99.9 {:<9} max {:<9} ({count} measured)",
            Us(p50),
            Us(p90),
            Us(p95),
            Us(p99),
            Us(p999),
            Us(max)
        )
    }
}
