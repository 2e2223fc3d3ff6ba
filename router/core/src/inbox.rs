//! The inbox fold: gives each entry its position in a user's inbox, and keeps the devices that read it.

use std::collections::BTreeSet;

use router_records::log::{AckInput, DeviceInput};
use router_records::row::{DeviceRow, InboxRow, Row};
use smallvec::SmallVec;
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, Offset, Position, Seq, SessionNumber, UnixMs, UserId};

use crate::admission::Refusal;
use crate::cache::Cache;
use crate::effects::Effects;
use crate::time::Stamp;

/// Bounds of an [`InboxFold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxConfig {
    /// Devices a user may register.
    pub devices_max: usize,
    /// Users held, about 130 bytes each, and 40 more for each device after the first.
    pub users_max: usize,
}

impl Default for InboxConfig {
    fn default() -> Self {
        Self {
            devices_max: 8,
            users_max: 128 << 10,
        }
    }
}

/// Index of the first entry that a record makes. 0 is left out so that [`Position::start`] is before every entry.
pub const FIRST_INDEX: u16 = 1;

/// An entry that is to get its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// Whose inbox.
    pub user: UserId,
    /// Which of the record's entries, from [`FIRST_INDEX`].
    pub index: u16,
    /// Where the message is.
    pub conversation: ConversationId,
    /// Which it is.
    pub seq: Seq,
    /// The seq of that conversation that was sent to the user before it, as the conversation knows.
    pub prev_seq: Seq,
}

/// What a hello must know of a user's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderFacts {
    /// The device as it is stored; `None` when it was never seen.
    pub device: Option<DeviceRow>,
    /// The newest entry; before every entry when there is none.
    pub head: Position,
    /// Everything after this is kept.
    pub oldest: Position,
}

/// Whether a device may say hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has before.
    Known,
    /// For the first time: log it.
    New,
}

/// State of the users of a slot (embedded: of all).
#[derive(Debug)]
pub struct InboxFold {
    generation: u32,
    devices_max: usize,
    users: Cache<UserId, User>,
    /// Devices that are admitted, and not folded yet.
    admitted: BTreeSet<(UserId, DeviceId)>,
}

#[derive(Debug, Default)]
struct User {
    /// The newest entry, before every entry of the store when there is none; complete only together with `devices`, else the
    /// newest that memory saw.
    head: Position,
    /// `None` until loaded: an entry alone does not need them. Nearly everybody has one.
    devices: Option<SmallVec<[Device; 1]>>,
    /// The last seq sent to the user in the latest conversations, newest first; nothing while no message came.
    sent: Option<Box<LastSent>>,
}

/// Most users write with few.
type LastSent = SmallVec<[(ConversationId, Seq); 4]>;

/// A device of a user; see [`DeviceRow`].
#[derive(Clone, Copy, Debug)]
struct Device {
    device: DeviceId,
    acked: Position,
    session: SessionNumber,
    last_seen: UnixMs,
}

/// What a user without messages costs, with the entry of the cache around it.
const _: () = assert!(size_of::<User>() <= 88);

/// Conversations of a user whose last seq stays in memory. Only a guard: where it is absent, an entry's own `prev_seq`
/// says the same.
const SENT_MAX: usize = 8;

impl InboxFold {
    /// Returns a fold that gives positions of a store's generation.
    pub fn new(config: InboxConfig, generation: u32) -> Self {
        Self {
            generation,
            devices_max: config.devices_max,
            users: Cache::new(config.users_max),
            admitted: BTreeSet::new(),
        }
    }

    /// Returns whether the devices and the head of a user must be loaded before an ack, a device or a hello.
    pub fn is_missing(&self, user: UserId) -> bool {
        self.users.get(&user).is_none_or(|user| user.devices.is_none())
    }

    /// Takes a user's devices and newest entry as the store has them. What memory has is newer and stays.
    pub fn handle_loaded(&mut self, id: UserId, devices: Vec<DeviceRow>, head: Option<Position>) {
        let head = head.unwrap_or_default();
        let devices = || devices.iter().map(Device::of).collect();
        match self.users.get_mut(&id) {
            Some(user) => {
                user.head = user.head.max(head);
                user.devices.get_or_insert_with(devices);
            }
            None => {
                let user = User {
                    head,
                    devices: Some(devices()),
                    sent: None,
                };
                self.users.insert(id, user, None);
            }
        }
    }

    /// Gives an entry its position; `None` when the user already has that message.
    pub fn fold_entry(
        &mut self,
        offset: Offset,
        entry: &NewEntry,
        effects: &mut Effects,
    ) -> Option<Position> {
        let generation = self.generation;
        let user = self.users.write_or_default(entry.user, offset);
        let prev_seq = user.advance_sent(entry)?;
        let entry = NewEntry { prev_seq, ..*entry };
        Some(user.place(generation, offset, &entry, effects))
    }

    /// Gives an entry its position, of a message that the user surely does not have.
    pub fn place_entry(&mut self, offset: Offset, entry: &NewEntry, effects: &mut Effects) -> Position {
        let user = self.users.write_or_default(entry.user, offset);
        user.place(self.generation, offset, entry, effects)
    }

    /// Takes note of an entry that has its row already.
    pub fn note_entry(&mut self, offset: Offset, user: UserId, position: Position) {
        let user = self.users.write_or_default(user, offset);
        user.head = user.head.max(position);
    }

    /// Moves the acked position of a device, at most to the head as of the record.
    ///
    /// Panics: when the user [`is_missing`](Self::is_missing).
    pub fn fold_ack(&mut self, stamp: Stamp, ack: &AckInput, effects: &mut Effects) {
        let acked = ack.position.min(self.head(ack.user));
        self.fold_reader(stamp, ack.user, ack.device, ack.session, acked, effects);
    }

    /// Registers a device. That there is room for it was checked before the log; here it would depend on a setting.
    ///
    /// Panics: when the user [`is_missing`](Self::is_missing).
    pub fn fold_device(&mut self, stamp: Stamp, input: &DeviceInput, effects: &mut Effects) {
        let acked = Position::start(self.generation);
        self.fold_reader(stamp, input.user, input.device, input.session, acked, effects);
    }

    /// Returns whether a device may say hello, and keeps a place for it until its record is folded.
    ///
    /// Errors: `too_many_devices`; the user must give one up.
    /// Panics: when the user [`is_missing`](Self::is_missing).
    pub fn admit_device(&mut self, user: UserId, device: DeviceId) -> Result<Admission, Refusal> {
        let held = self.users.get(&user);
        let devices = held
            .and_then(|user| user.devices.as_ref())
            .expect("the caller loads what missing() names");
        let is_admitted = self.admitted.contains(&(user, device));
        if is_admitted || devices.iter().any(|held| held.device == device) {
            return Ok(Admission::Known);
        }
        let admitted = self.admitted.range((user, DeviceId::API)..);
        let admitted = admitted.take_while(|(of, _)| *of == user).count();
        if devices.len() + admitted >= self.devices_max {
            return Err(Refusal::new(
                Code::TooManyDevices,
                "device_id: this user has as many devices as it may",
            ));
        }
        self.admitted.insert((user, device));
        Ok(Admission::New)
    }

    /// Gives back the place of a device whose record was not appended.
    pub fn cancel_device(&mut self, user: UserId, device: DeviceId) {
        self.admitted.remove(&(user, device));
    }

    /// Returns the newest entry of a user; before every entry when there is none.
    pub fn head(&self, user: UserId) -> Position {
        let head = self
            .users
            .get(&user)
            .map_or_else(Position::default, |user| user.head);
        head.max(Position::start(self.generation))
    }

    /// Returns a device as of the last record.
    pub fn device(&self, user: UserId, device: DeviceId) -> Option<DeviceRow> {
        let devices = self.users.get(&user)?.devices.as_ref()?;
        let held = devices.iter().find(|held| held.device == device)?;
        Some(held.row(user))
    }

    /// Cuts memory back to its bound.
    ///
    /// Order: records up to `applied` can be read back from the store.
    pub fn evict(&mut self, applied: Option<Offset>) {
        self.users.evict(applied);
    }

    fn fold_reader(
        &mut self,
        stamp: Stamp,
        user: UserId,
        device: DeviceId,
        session: SessionNumber,
        acked: Position,
        effects: &mut Effects,
    ) {
        self.admitted.remove(&(user, device));
        let state = self.users.write(&user, stamp.offset);
        let devices = state
            .and_then(|state| state.devices.as_mut())
            .expect("the caller loads what missing() names");
        let new = Device {
            device,
            acked,
            session,
            last_seen: stamp.time,
        };
        let held = match devices.iter_mut().find(|held| held.device == device) {
            Some(held) => {
                held.acked = held.acked.max(acked);
                held.session = held.session.max(session);
                held.last_seen = held.last_seen.max(stamp.time);
                *held
            }
            None => {
                devices.push(new);
                new
            }
        };
        effects.rows.push(Row::Device(held.row(user)));
    }
}

impl Device {
    fn of(row: &DeviceRow) -> Self {
        Self {
            device: row.device,
            acked: row.acked,
            session: row.session,
            last_seen: row.last_seen,
        }
    }

    fn row(&self, user: UserId) -> DeviceRow {
        DeviceRow {
            user,
            device: self.device,
            acked: self.acked,
            session: self.session,
            last_seen: self.last_seen,
        }
    }
}

impl User {
    fn place(
        &mut self,
        generation: u32,
        offset: Offset,
        entry: &NewEntry,
        effects: &mut Effects,
    ) -> Position {
        let position = Position {
            generation,
            offset,
            index: entry.index,
        };
        self.head = self.head.max(position);
        effects.rows.push(Row::Inbox(InboxRow {
            user: entry.user,
            position,
            conversation: entry.conversation,
            seq: entry.seq,
            prev_seq: entry.prev_seq,
        }));
        position
    }

    /// Notes that the entry is sent and returns the seq before it; `None` when it was sent already.
    fn advance_sent(&mut self, entry: &NewEntry) -> Option<Seq> {
        let sent = self.sent.get_or_insert_default();
        let found = sent.iter().position(|sent| sent.0 == entry.conversation);
        let prev_seq = found.map_or(entry.prev_seq, |at| sent[at].1);
        if entry.seq <= prev_seq {
            return None;
        }
        match found {
            Some(at) => sent[..=at].rotate_right(1),
            None => {
                sent.truncate(SENT_MAX - 1);
                sent.insert(0, (entry.conversation, entry.seq));
            }
        }
        sent[0].1 = entry.seq;
        Some(prev_seq)
    }
}

#[cfg(test)]
mod tests;
