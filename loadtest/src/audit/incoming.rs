//! The receiver's half of a pair's ledger: which numbers arrived, under which seqs, in which order.

use wire_base::ids::Seq;
use wire_base::random::mix;

use super::outgoing::placed;

/// Deliveries of one pair, in 56 bytes while all goes well.
///
/// Shape: a watermark of numbers; the numbers missing below it are a bounded list of ranges in a box that exists only
/// while something is out of the ordinary.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The front of the conversation's id; 0 before the first delivery.
    pub(super) conversation: u64,
    /// Lowest and highest seq seen; 0 before the first delivery.
    pub(super) seq_low: u64,
    pub(super) seq_high: u64,
    /// Of the seqs.
    pub(super) seq_print: u64,
    /// Of (number, seq); compared with what `sent` told the sender.
    pub(super) placed_print: u64,
    /// Highest number seen.
    pub(super) high: u32,
    pub(super) irregular: Option<Box<Irregular>>,
}

const _: () = assert!(size_of::<Incoming>() <= 56);

/// What a delivery was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// New, and in its place.
    First,
    /// New, but behind a later one of its conversation.
    Reordered,
    /// The same message under another seq: a client cannot tell and shows it twice.
    Duplicate,
    /// The same message under a seq already passed: a client drops it.
    Repeat,
    /// A number nobody can have sent yet.
    Ghost,
}

#[derive(Debug, Default)]
pub(super) struct Irregular {
    /// Numbers not seen below the watermark, ascending, disjoint; at most [`HOLES_MAX`].
    pub(super) holes: Vec<Hole>,
    /// Holes over the bound are only counted, the oldest first.
    forgotten: u32,
    forgotten_print: u64,
    forgotten_to: u32,
    /// Deliveries behind a later number of the same sender, with a higher seq.
    pub(super) overtaken: u32,
    /// Seqs of duplicates; they are in `seq_print` too.
    pub(super) extra_seqs: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) first: u32,
    pub(super) last: u32,
}

/// Ranges of missing numbers kept exactly, for one pair.
const HOLES_MAX: usize = 64;
/// A number this far above the last one cannot have been sent: a sender has far fewer sends in flight.
const JUMP_MAX: u32 = 1 << 20;

impl Incoming {
    /// Takes one delivery and says what it was.
    pub(super) fn deliver(&mut self, number: u32, seq: Seq) -> Delivery {
        if number == 0 || number == u32::MAX || number > self.high.saturating_add(JUMP_MAX) {
            return Delivery::Ghost;
        }
        let behind = seq.0 <= self.seq_high;
        match self.holds(number, behind) {
            true if behind => Delivery::Repeat,
            true => {
                self.note_seq(seq);
                self.irregular().extra_seqs += 1;
                Delivery::Duplicate
            }
            false => {
                if !behind && number < self.high {
                    self.irregular().overtaken += 1;
                }
                self.note_seq(seq);
                self.note_number(number);
                self.placed_print = self.placed_print.wrapping_add(placed(number, seq));
                if behind {
                    Delivery::Reordered
                } else {
                    Delivery::First
                }
            }
        }
    }

    /// Returns how many different numbers were delivered.
    pub(super) fn delivered(&self) -> u64 {
        u64::from(self.high) - self.missing(self.high).0
    }

    /// Returns the numbers up to `issued` that were not delivered: how many, and their print.
    pub(super) fn missing(&self, issued: u32) -> (u64, u64) {
        let tail = Hole {
            first: self.high + 1,
            last: issued,
        };
        let irregular = self.irregular.as_deref();
        let forgotten = irregular.map_or((0, 0), |odd| (u64::from(odd.forgotten), odd.forgotten_print));
        let holes = irregular.map_or(&[][..], |odd| &odd.holes);
        holes
            .iter()
            .map(|hole| Hole {
                first: hole.first,
                last: hole.last.min(issued),
            })
            .chain([tail])
            .fold(forgotten, |(count, print), hole| {
                (count + hole.len(), print.wrapping_add(hole.print()))
            })
    }

    /// Returns whether a number was delivered; of a number only counted as missing, what is likelier.
    pub(super) fn holds(&self, number: u32, likely: bool) -> bool {
        let Some(irregular) = &self.irregular else {
            return number <= self.high;
        };
        if number > self.high || irregular.hole_of(number).is_ok() {
            return false;
        }
        if number <= irregular.forgotten_to {
            likely
        } else {
            true
        }
    }

    fn note_seq(&mut self, seq: Seq) {
        if self.seq_low == 0 || seq.0 < self.seq_low {
            self.seq_low = seq.0;
        }
        self.seq_high = self.seq_high.max(seq.0);
        self.seq_print = self.seq_print.wrapping_add(mix(seq.0));
    }

    fn note_number(&mut self, number: u32) {
        if number <= self.high {
            self.irregular().fill(number);
            return;
        }
        if number > self.high + 1 {
            let hole = Hole {
                first: self.high + 1,
                last: number - 1,
            };
            self.irregular().open(hole);
        }
        self.high = number;
    }

    fn irregular(&mut self) -> &mut Irregular {
        self.irregular.get_or_insert_default()
    }
}

impl Irregular {
    /// Returns the index of the hole that holds a number, or where one would be.
    fn hole_of(&self, number: u32) -> Result<usize, usize> {
        let at = self.holes.partition_point(|hole| hole.last < number);
        if self.holes.get(at).is_some_and(|hole| hole.first <= number) {
            Ok(at)
        } else {
            Err(at)
        }
    }

    fn open(&mut self, hole: Hole) {
        self.holes.push(hole);
        self.keep_within_bound();
    }

    fn fill(&mut self, number: u32) {
        let Ok(at) = self.hole_of(number) else {
            self.forgotten = self.forgotten.saturating_sub(1);
            self.forgotten_print = self.forgotten_print.wrapping_sub(mix(u64::from(number)));
            return;
        };
        let Hole { first, last } = self.holes[at];
        let below = (first < number).then(|| Hole {
            first,
            last: number - 1,
        });
        let above = (number < last).then(|| Hole {
            first: number + 1,
            last,
        });
        self.holes.splice(at..=at, below.into_iter().chain(above));
        self.keep_within_bound();
    }

    fn keep_within_bound(&mut self) {
        if self.holes.len() > HOLES_MAX {
            let oldest = self.holes.remove(0);
            self.forgotten = self.forgotten.saturating_add(oldest.len() as u32);
            self.forgotten_print = self.forgotten_print.wrapping_add(oldest.print());
            self.forgotten_to = oldest.last;
        }
    }
}

impl Hole {
    fn len(self) -> u64 {
        (u64::from(self.last) + 1).saturating_sub(u64::from(self.first))
    }

    fn print(self) -> u64 {
        (self.first..=self.last).fold(0, |print, number| print.wrapping_add(mix(u64::from(number))))
    }
}
