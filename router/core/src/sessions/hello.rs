//! Where a session starts to read (docs/protocol.md section 4).

use wire_base::ids::Position;
use wire_link::SessionOpen;

use crate::inbox::ReaderFacts;

/// What memory knows of a device beyond the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Every entry up to here is in an ack, logged or waiting.
    pub(super) counted: Option<Position>,
    /// What its last session acked; below `counted` while that one re-reads.
    pub(super) acked: Option<Position>,
}

/// The positions of a new reader; see `Reader`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) acked: Position,
    pub(super) scanned: Position,
    pub(super) forwarded: Position,
    pub(super) counted: Position,
    /// A cursor was given and is where the session starts.
    pub(super) is_resumed: bool,
    /// The session starts at the oldest entry instead: why, and where that is.
    pub(super) resync: Option<(&'static str, Position)>,
}

/// Returns where a session starts.
///
/// A good cursor is an ack: reading starts there, or before it at what was not counted yet. Without one the device's
/// own ack takes its place, and a device never seen starts at the oldest entry. What is of another generation, beyond
/// the head or older than what is kept starts at the oldest entry too, and the client is told (`resync`).
pub(super) fn start(request: &SessionOpen, facts: &ReaderFacts, known: Known, generation: u32) -> Start {
    let kept = Kept {
        generation,
        // Nothing was dropped after the newest entry, and nothing at all of an inbox that never had one.
        oldest: facts.oldest.min(facts.head),
        head: facts.head,
    };
    let counted = facts.device.map(|row| row.acked).max(known.counted);
    let acked = match request.cursor {
        Some(cursor) => kept.check(cursor),
        None => kept.check_own(counted.max(known.acked)),
    };
    let forwarded = request
        .forwarded
        .map(|forwarded| kept.check(forwarded))
        .transpose();
    let counted = counted.unwrap_or(kept.oldest);
    match (acked, forwarded) {
        (Ok(acked), Ok(forwarded)) => Start {
            acked,
            scanned: acked.min(counted).max(kept.oldest),
            forwarded: acked.max(forwarded.unwrap_or(acked)),
            counted,
            is_resumed: request.cursor.is_some(),
            resync: None,
        },
        (Err(reason), _) | (_, Err(reason)) => Start {
            acked: kept.oldest,
            scanned: kept.oldest,
            forwarded: kept.oldest,
            counted,
            is_resumed: false,
            resync: Some((reason, kept.oldest)),
        },
    }
}

/// What can be read of an inbox.
struct Kept {
    generation: u32,
    oldest: Position,
    head: Position,
}

impl Kept {
    fn check(&self, cursor: Position) -> Result<Position, &'static str> {
        if cursor.generation != self.generation {
            Err("the cursor is of another store")
        } else if cursor > self.head {
            Err("the cursor is beyond the newest message")
        } else if cursor < self.oldest {
            Err("the cursor is older than the messages still kept")
        } else {
            Ok(cursor)
        }
    }

    /// The device's own ack in place of a cursor; a device never seen has none.
    fn check_own(&self, acked: Option<Position>) -> Result<Position, &'static str> {
        let acked = acked.unwrap_or(Position::start(self.generation));
        if acked < self.oldest {
            Err("earlier messages are no longer kept")
        } else {
            Ok(acked)
        }
    }
}

#[cfg(test)]
mod tests;
