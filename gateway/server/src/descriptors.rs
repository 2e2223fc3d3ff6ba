//! How the open descriptors of a process are divided: what clients may take, and what is kept from them.

use std::fmt;

use runtime::descriptors::{DescriptorLimit, raise_limit};

/// Descriptors by purpose. A client that only connects, without any token, takes one: without a bound a flood of them
/// would take those of the log too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    limit: DescriptorLimit,
}

impl DescriptorBudget {
    /// Raises the soft limit of this process as far as it goes and divides what it is then.
    pub fn claim() -> Self {
        let budget = Self { limit: raise_limit() };
        tracing::info!("{budget}");
        budget
    }

    /// Returns how many descriptors the process may hold; `None`: no limit.
    pub fn limit(&self) -> Option<u64> {
        self.limit.now
    }

    /// Returns how many sockets each of `workers` may hold: its share, and no more than its connections and
    /// [`HANDSHAKES_MAX`] on their way in or out need.
    pub fn sockets_max(&self, workers: u16, connections_max: u32) -> usize {
        let needed = u64::from(connections_max) + HANDSHAKES_MAX;
        self.share(workers).min(needed).max(1) as usize
    }

    /// Returns what to tell an operator who asked for more connections of each worker than fit.
    pub fn shortage(&self, workers: u16, asked: u32) -> Option<String> {
        let limit = self.limit.now?;
        let fitting = self.connections_max(workers, asked);
        (fitting < asked).then(|| {
            format!(
                "{workers} workers with {asked} connections each do not fit {limit} descriptors: a worker takes at most \
                 {fitting}; more need a higher limit (ulimit -n, LimitNOFILE=)"
            )
        })
    }

    /// Returns how many connections of `wanted` a worker takes, so that one too many is told so with 4429 while there are
    /// sockets for that.
    pub fn connections_max(&self, workers: u16, wanted: u32) -> u32 {
        let share = self.share(workers);
        let fitting = share - share / LEAVING_SHARE;
        u32::try_from(fitting).map_or(wanted, |fitting| wanted.min(fitting.max(1)))
    }

    /// Returns how many of `wanted` connections of the API fit into what is kept.
    pub fn api_connections_max(&self, wanted: usize) -> usize {
        let half = self.limit.now.map_or(u64::MAX, |limit| kept(limit) / 2);
        wanted.min(half.max(1) as usize)
    }

    /// Returns how many connections of the admin listener fit into what is kept.
    pub fn admin_connections_max(&self) -> usize {
        let eighth = self.limit.now.map_or(u64::MAX, |limit| kept(limit) / 8);
        eighth.clamp(1, ADMIN_CONNECTIONS_MAX) as usize
    }

    /// Returns how many descriptors of each worker are for clients.
    fn share(&self, workers: u16) -> u64 {
        let for_clients = self.limit.now.map_or(u64::MAX, |limit| limit - kept(limit));
        for_clients / u64::from(workers.max(1))
    }
}

impl fmt::Display for DescriptorBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open descriptors: {}", self.limit)?;
        match self.limit.now {
            Some(limit) => write!(
                f,
                ", {} for clients, {} kept for engine, log, store, API and admin",
                limit - kept(limit),
                kept(limit)
            ),
            None => Ok(()),
        }
    }
}

/// Sockets of a worker beyond its connections: upgrades on their way in, closes on their way out.
pub const HANDSHAKES_MAX: u64 = 4_096;

/// Where descriptors are few, this part of a worker's sockets is for those on their way in or out.
const LEAVING_SHARE: u64 = 8;

/// A few probes and scrapers, and one who is looking.
const ADMIN_CONNECTIONS_MAX: u64 = 256;

/// What clients may not take: a tenth and at least 256, but never more than half.
const fn kept(limit: u64) -> u64 {
    let tenth = limit / 10;
    if tenth >= KEPT_MIN {
        tenth
    } else if limit / 2 >= KEPT_MIN {
        KEPT_MIN
    } else {
        limit / 2
    }
}

/// A server with two workers and an idle store holds about 40; the rest is for tables of the store and the API.
const KEPT_MIN: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: Option<u64>) -> DescriptorBudget {
        DescriptorBudget {
            limit: DescriptorLimit {
                before: limit,
                now: limit,
            },
        }
    }

    #[test]
    fn what_is_kept_and_what_clients_get_is_never_more_than_the_limit() {
        for (limit, kept, each_of_two) in [
            (64, 32, 16),
            (400, 200, 100),
            (1_024, 256, 384),
            (20_000, 2_000, 9_000),
            (1 << 20, 104_857, 24_096),
        ] {
            let budget = budget(Some(limit));
            assert_eq!(super::kept(limit), kept);
            assert_eq!(budget.sockets_max(2, 20_000), each_of_two, "of {limit}");
            let api = budget.api_connections_max(1_024);
            let admin = budget.admin_connections_max();
            assert!(each_of_two as u64 * 2 + kept <= limit && (api + admin) as u64 <= kept * 5 / 8);
        }
        let unlimited = budget(None);
        assert_eq!(unlimited.sockets_max(8, 20_000), 24_096);
        assert_eq!(unlimited.shortage(8, 20_000), None);
        assert_eq!(unlimited.api_connections_max(1_024), 1_024);
    }

    #[test]
    fn a_shortage_is_told_from_the_first_connection_that_does_not_fit() {
        let budget = budget(Some(20_000));
        assert_eq!(budget.shortage(2, 7_875), None);
        let told = budget.shortage(2, 7_876).unwrap();
        assert!(
            told.contains("20000 descriptors") && told.contains("at most 7875"),
            "{told}"
        );
    }
}
