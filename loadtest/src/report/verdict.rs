//! The judgement on a run, and the exit code that stands for it.

use serde::Serialize;

use super::Report;
use crate::settings::Settings;

/// What a run comes to. Where several apply, the first of this order is it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The target broke a promise: something was lost, doubled, reordered or made up.
    AuditFailed,
    /// The run was asked to end before its time.
    Interrupted,
    /// No client got in, or none was left at the end.
    TargetDown,
    /// The tool did not keep its own schedule: the numbers say nothing about the target.
    GeneratorLimited,
    /// The target kept its promises but not the limits set.
    ThresholdFailed,
    /// All well.
    Pass,
}

impl Outcome {
    /// Returns the exit code of the command.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::AuditFailed | Self::ThresholdFailed => 2,
            Self::GeneratorLimited => 3,
            Self::TargetDown => 4,
            Self::Interrupted => 130,
        }
    }

    /// Returns the name in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::AuditFailed => "audit-failed",
            Self::ThresholdFailed => "threshold-failed",
            Self::GeneratorLimited => "generator-limited",
            Self::TargetDown => "target-down",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The judgement and its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In one word.
    pub outcome: Outcome,
    /// Everything that is wrong, also what did not decide the outcome; empty for a pass.
    pub reasons: Vec<String>,
}

impl Verdict {
    pub(super) fn of(report: &Report, settings: &Settings, is_down: bool) -> Self {
        let interrupted = report.interrupted.then(|| {
            let (measured_s, asked_s) = (report.achieved.measured_s, report.asked.duration_s);
            format!("interrupted: {measured_s:.1} of {asked_s:.1} s were measured")
        });
        let down = is_down.then(|| down_reason(report));
        let groups = [
            (Outcome::AuditFailed, audit_defects(report, settings)),
            (Outcome::Interrupted, interrupted.into_iter().collect()),
            (Outcome::TargetDown, down.into_iter().collect()),
            (
                Outcome::GeneratorLimited,
                report.generator.limits(&settings.punctuality),
            ),
            (Outcome::ThresholdFailed, threshold_failures(report, settings)),
        ];
        let outcome = groups
            .iter()
            .find(|(_, reasons)| !reasons.is_empty())
            .map_or(Outcome::Pass, |(outcome, _)| *outcome);
        Self {
            outcome,
            reasons: groups
                .into_iter()
                .flat_map(|(_, reasons): (_, Vec<String>)| reasons)
                .collect(),
        }
    }
}

fn down_reason(report: &Report) -> String {
    let connects = &report.connects;
    let (what, endings) = if connects.live_us.count == 0 {
        ("succeeded", &connects.failures)
    } else {
        ("was left at the end", &connects.losses)
    };
    let why = match endings.iter().max_by_key(|(_, count)| **count) {
        Some((label, count)) => format!(": {label} ({count} times)"),
        None => String::new(),
    };
    format!("no connection to {} {what}{why}", report.target)
}

fn audit_defects(report: &Report, settings: &Settings) -> Vec<String> {
    report
        .audit
        .as_ref()
        .map_or_else(Vec::new, |audit| audit.defects(settings.allow_disruption))
}

fn threshold_failures(report: &Report, settings: &Settings) -> Vec<String> {
    let count_of = |labels: &std::collections::BTreeMap<String, u64>| labels.values().sum::<u64>();
    let traffic = &report.traffic;
    let disruptions = [
        (count_of(&report.connects.losses), "connections lost"),
        (
            traffic.missed_offline,
            "sends missed while their connection was down",
        ),
        (count_of(&report.connects.failures), "connects failed"),
    ];
    let unknown = report.audit.as_ref().map_or(0, |audit| audit.unknown);
    let always = [
        (traffic.refused, "sends refused"),
        (unknown, "sends without an answer"),
    ];
    let allowed = if settings.allow_disruption {
        &disruptions[..0]
    } else {
        &disruptions[..]
    };
    let counted = allowed.iter().chain(&always).filter(|(count, _)| *count > 0);
    let mut failures: Vec<String> = counted.map(|(count, what)| format!("{count} {what}")).collect();
    if traffic.sent > 0 && traffic.accepted + traffic.refused == 0 {
        failures.push(format!(
            "{} answered nothing at all: is it a target for `{}`?",
            report.target, report.mode
        ));
    }
    let away = u64::from(report.asked.conns).saturating_sub(report.connects.live_at_end);
    // An interrupted run may never have come to them.
    if away > 0 && !report.interrupted {
        failures.push(format!("{away} clients not connected at the end"));
    }
    for (what, latency) in [("answers", &report.ack_us), ("deliveries", &report.delivery_us)] {
        failures.extend(settings.latency_limits.exceeded(what, latency));
    }
    failures
}
