//! What every [`Log`] promises, as a test that any implementation can be held against.

use wire_base::ids::Offset;

use super::error::{AppendError, ReadError};
use super::group::Group;
use super::port::Log;

/// A log that can be opened again, and the trouble it may have.
pub trait Subject {
    /// The log.
    type Log: Log;

    /// Opens it. The last one opened is gone.
    fn open(&mut self) -> Self::Log;

    /// The machine under it goes down and comes back, the log being gone. It may keep unacknowledged groups or not.
    fn crash(&mut self);

    /// Takes away all space for more, or gives it back. There may be room for some groups yet.
    fn set_full(&mut self, is_full: bool);

    /// Has the sync of the next group fail.
    fn fail_next_sync(&mut self);
}

/// Holds a log, empty at first, against everything that a router relies on.
///
/// Panics: where it breaks a promise.
pub fn check(mut subject: impl Subject) {
    let mut kept = Kept::default();
    offsets_are_dense_and_records_come_back_from_everywhere(&mut subject, &mut kept);
    truncation_keeps_what_must_stay(&mut subject, &mut kept);
    full_log_takes_nothing_and_heals(&mut subject, &mut kept);
    failed_sync_stops_it_until_it_is_opened_again(&mut subject, &mut kept);
    truncation_keeps_what_must_stay(&mut subject, &mut kept);
}

/// What the log acknowledged.
#[derive(Default)]
struct Kept {
    /// Those that were deleted too, so that the index of a record is its offset.
    records: Vec<Vec<u8>>,
    next_number: usize,
}

impl Kept {
    /// Returns a group of one to three records that no other group has.
    fn group(&mut self) -> Group {
        self.next_number += 1;
        let mut group = Group::new();
        for index in 0..1 + self.next_number % 3 {
            let record = format!("group {} record {index} ", self.next_number);
            group.push_bytes(record.repeat(1 + self.next_number * 7 % 40).as_bytes());
        }
        group
    }

    fn next(&self) -> Offset {
        Offset(self.records.len() as u64)
    }

    /// Appends a group that there must be room for.
    fn append(&mut self, log: &mut impl Log) {
        let mut group = self.group();
        let first = log.append(&mut group).expect("there is room");
        self.acknowledge(first, &group);
    }

    fn acknowledge(&mut self, first: Offset, group: &Group) {
        assert_eq!(first, self.next(), "offsets have no gaps");
        self.records.extend(group.records().map(<[u8]>::to_vec));
    }

    /// Reads everything from the first record on, and from some places in between.
    fn check(&self, log: &impl Log) {
        assert_eq!(log.next(), self.next());
        let first = log.first();
        let wanted = (first.0..=log.next().0).step_by(5).chain([log.next().0]);
        for from in wanted {
            let read: Result<Vec<_>, _> = log.read_from(Offset(from)).expect("it holds this").collect();
            let read = read.expect("nothing is damaged");
            assert!(read.iter().map(|(offset, _)| offset.0).eq(from..log.next().0));
            let records = read.iter().map(|(_, record)| &record[..]);
            assert!(records.eq(self.records[from as usize..].iter().map(|record| &record[..])));
        }
        let beyond = [first.0.checked_sub(1), Some(log.next().0 + 1)];
        for outside in beyond.into_iter().flatten() {
            let read = log.read_from(Offset(outside)).err();
            assert!(
                matches!(read, Some(ReadError::OutOfRange { .. })),
                "{outside}: {read:?}"
            );
        }
    }
}

fn offsets_are_dense_and_records_come_back_from_everywhere(subject: &mut impl Subject, kept: &mut Kept) {
    let mut log = subject.open();
    assert_eq!((log.first(), log.next()), (Offset(0), Offset(0)));
    for _ in 0..30 {
        kept.append(&mut log);
        assert_eq!(log.next(), kept.next());
    }
    let stats = log.stats();
    assert_eq!((stats.groups, stats.records), (30, kept.next().0));
    kept.check(&log);
    drop(log);
    subject.crash();
    kept.check(&subject.open());
}

fn truncation_keeps_what_must_stay(subject: &mut impl Subject, kept: &mut Kept) {
    let mut log = subject.open();
    let middle = Offset((log.first().0 + log.next().0) / 2);
    log.truncate_below(log.first()).expect("nothing is to be deleted");
    kept.check(&log);
    log.truncate_below(middle).expect("the log can be truncated");
    let first = log.first();
    assert!(first <= middle);
    let sections: Vec<_> = log.sections().map(|section| section.first).collect();
    assert_eq!(sections[0], first, "the log begins with a section");
    assert!(sections.is_sorted() && sections.last() <= Some(&log.next()));
    let keeps_part = |section: &Offset| *section > first && *section <= middle;
    assert!(
        !sections.iter().any(keeps_part),
        "a section below {middle:?} was left: {sections:?}"
    );
    kept.check(&log);
    drop(log);
    subject.crash();
    let mut log = subject.open();
    assert_eq!(log.first(), first);
    log.truncate_below(Offset(log.next().0 + 10))
        .expect("the log can be truncated");
    kept.append(&mut log);
    kept.check(&log);
}

fn full_log_takes_nothing_and_heals(subject: &mut impl Subject, kept: &mut Kept) {
    let mut log = subject.open();
    subject.set_full(true);
    let mut refused = loop {
        let mut group = kept.group();
        match log.append(&mut group) {
            Ok(first) => kept.acknowledge(first, &group),
            Err(AppendError::NoSpace) => break group,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(log.probe(), Err(AppendError::NoSpace)));
    kept.check(&log);
    drop(log);
    subject.set_full(false);
    subject.crash();
    let mut log = subject.open();
    kept.check(&log);
    subject.set_full(true);
    while log
        .append(&mut refused)
        .map(|first| kept.acknowledge(first, &refused))
        .is_ok()
    {}
    assert!(matches!(log.append(&mut refused), Err(AppendError::NoSpace)));
    subject.set_full(false);
    log.probe().expect("there is room again");
    let first = log.append(&mut refused).expect("there is room again");
    kept.acknowledge(first, &refused);
    kept.append(&mut log);
    kept.check(&log);
}

fn failed_sync_stops_it_until_it_is_opened_again(subject: &mut impl Subject, kept: &mut Kept) {
    for _ in 0..8 {
        let mut log = subject.open();
        kept.append(&mut log);
        subject.fail_next_sync();
        let mut group = kept.group();
        let appended = log.append(&mut group);
        assert!(matches!(appended, Err(AppendError::Failed(_))), "{appended:?}");
        assert!(matches!(log.append(&mut group), Err(AppendError::Stopped)));
        assert!(matches!(log.probe(), Err(AppendError::Stopped)));
        drop(log);
        subject.crash();
        let log = subject.open();
        if log.next() > kept.next() {
            kept.acknowledge(kept.next(), &group); // It was durable, or is now.
        }
        kept.check(&log);
    }
}
