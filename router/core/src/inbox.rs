//! The inbox fold: gives each entry its position in a user's inbox, and keeps the devices that read it.

use router_records::log::{AckInput, DeviceInput};
use router_records::row::{DeviceRow, InboxRow, Row};
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, Offset, Position, Seq, SessionNumber, UserId};

use crate::cache::Cache;
use crate::effects::Effects;
use crate::prelog::Refusal;
use crate::time::Stamp;

/// Bounds of an [`InboxFold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxConfig {
    /// Devices a user may register.
    pub devices_max: usize,
    /// Users held, about 300 bytes each.
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
}

#[derive(Debug, Default)]
struct User {
    /// The newest entry; complete only together with `devices`, else the newest that memory saw.
    head: Option<Position>,
    /// `None` until loaded: an entry alone does not need them.
    devices: Option<Vec<DeviceRow>>,
    /// Admitted, and not folded yet.
    admitted: Vec<DeviceId>,
    /// The last seq sent to the user in the latest conversations, newest first.
    sent: Vec<(ConversationId, Seq)>,
}

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
        }
    }

    /// Returns whether the devices and the head of a user must be loaded before an ack, a device or a hello.
    pub fn is_missing(&self, user: UserId) -> bool {
        self.users.get(&user).is_none_or(|user| user.devices.is_none())
    }

    /// Takes a user's devices and newest entry as the store has them. What memory has is newer and stays.
    pub fn handle_loaded(&mut self, id: UserId, devices: Vec<DeviceRow>, head: Option<Position>) {
        match self.users.get_mut(&id) {
            Some(user) => {
                user.head = user.head.max(head);
                user.devices.get_or_insert(devices);
            }
            None => {
                let user = User {
                    head,
                    devices: Some(devices),
                    ..User::default()
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
        let user = self.users.write_or_default(entry.user, offset);
        let prev_seq = user.advance_sent(entry)?;
        let position = Position {
            generation: self.generation,
            offset,
            index: entry.index,
        };
        user.head = user.head.max(Some(position));
        effects.rows.push(Row::Inbox(InboxRow {
            user: entry.user,
            position,
            conversation: entry.conversation,
            seq: entry.seq,
            prev_seq,
        }));
        Some(position)
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
        let devices_max = self.devices_max;
        let user = self
            .users
            .get_mut(&user)
            .expect("the caller loads what missing() names");
        let devices = user
            .devices
            .as_ref()
            .expect("the caller loads what missing() names");
        if user.admitted.contains(&device) || devices.iter().any(|row| row.device == device) {
            return Ok(Admission::Known);
        }
        if devices.len() + user.admitted.len() >= devices_max {
            return Err(Refusal::new(
                Code::TooManyDevices,
                "device_id: this user has as many devices as it may",
            ));
        }
        user.admitted.push(device);
        Ok(Admission::New)
    }

    /// Gives back the place of a device whose record was not appended.
    pub fn cancel_device(&mut self, user: UserId, device: DeviceId) {
        if let Some(user) = self.users.get_mut(&user) {
            user.admitted.retain(|admitted| *admitted != device);
        }
    }

    /// Returns the newest entry of a user; before every entry when there is none.
    pub fn head(&self, user: UserId) -> Position {
        self.users
            .get(&user)
            .and_then(|user| user.head)
            .unwrap_or(Position::start(self.generation))
    }

    /// Returns a device as of the last record.
    pub fn device(&self, user: UserId, device: DeviceId) -> Option<DeviceRow> {
        let devices = self.users.get(&user)?.devices.as_ref()?;
        devices.iter().find(|row| row.device == device).copied()
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
        let state = self
            .users
            .write(&user, stamp.offset)
            .expect("the caller loads what missing() names");
        state.admitted.retain(|admitted| *admitted != device);
        let devices = state
            .devices
            .as_mut()
            .expect("the caller loads what missing() names");
        let new = DeviceRow {
            user,
            device,
            acked,
            session,
            last_seen: stamp.time,
        };
        let row = match devices.iter_mut().find(|row| row.device == device) {
            Some(row) => {
                row.acked = row.acked.max(acked);
                row.session = row.session.max(session);
                row.last_seen = row.last_seen.max(stamp.time);
                *row
            }
            None => {
                devices.push(new);
                new
            }
        };
        effects.rows.push(Row::Device(row));
    }
}

impl User {
    /// Notes that the entry is sent and returns the seq before it; `None` when it was sent already.
    fn advance_sent(&mut self, entry: &NewEntry) -> Option<Seq> {
        let found = self.sent.iter().position(|sent| sent.0 == entry.conversation);
        let prev_seq = found.map_or(entry.prev_seq, |at| self.sent[at].1);
        if entry.seq <= prev_seq {
            return None;
        }
        match found {
            Some(at) => self.sent[..=at].rotate_right(1),
            None => {
                self.sent.truncate(SENT_MAX - 1);
                self.sent.insert(0, (entry.conversation, entry.seq));
            }
        }
        self.sent[0].1 = entry.seq;
        Some(prev_seq)
    }
}

#[cfg(test)]
mod tests;
