//! Byte layout of link batches.
//!
//! A batch is a run of records. A record is a u32 length (of what follows), a kind byte, and the fields in the order listed
//! below, each in the layout of [`wire_base::codec`].

use std::iter::FusedIterator;
use std::marker::PhantomData;

use bytes::Bytes;

use super::{
    AckRecord, BATCH_BYTES_MAX, ConversationsPageRecord, ConversationsRecord, Deliver, FailedRecord,
    FromRouter, HistoryPageRecord, HistoryRecord, LinkHello, LinkKind, RECORD_BYTES_MAX, RejectedRecord,
    RequestId, SendRecord, SentRecord, SessionOpen, SessionOpened, SessionRef, SessionRefused, StatusRecord,
    StatusUpdateRecord, SummaryRecord, Synced, ToRouter,
};
use wire_base::codec::{DecodeError, Fault, Layout, Reader, layout};
use wire_base::ids::DeviceId;
use wire_base::limits::{PAGE_LIMIT_MAX, WINDOW_MAX};

/// Gathers records into a batch.
///
/// Shape: holds no memory while empty. Never grows past [`BATCH_BYTES_MAX`] when it is taken as soon as it
/// [is full](Self::is_full).
#[derive(Debug, Default)]
pub struct BatchWriter {
    out: Vec<u8>,
}

impl BatchWriter {
    /// Returns an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record for the router.
    ///
    /// Panics: when the record is larger than [`RECORD_BYTES_MAX`]; whoever makes lists bounds them by bytes.
    pub fn push_to_router(&mut self, record: &ToRouter) {
        self.push(record);
    }

    /// Appends a record of the router.
    ///
    /// Panics: when the record is larger than [`RECORD_BYTES_MAX`]; whoever makes lists bounds them by bytes.
    pub fn push_from_router(&mut self, record: &FromRouter) {
        self.push(record);
    }

    /// Returns the bytes gathered.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Returns whether nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Returns whether the next record might not fit: take the batch first.
    pub fn is_full(&self) -> bool {
        self.out.len() > BATCH_BYTES_MAX - RECORD_BYTES_MAX - LENGTH_BYTES
    }

    /// Returns the batch and starts another.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }

    fn push(&mut self, record: &impl Record) {
        if self.out.capacity() == 0 {
            self.out.reserve(BATCH_BYTES_RESERVED);
        }
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH_BYTES]);
        record.write(&mut self.out);
        let length = self.out.len() - start - LENGTH_BYTES;
        assert!(
            length <= RECORD_BYTES_MAX,
            "a record of {length} bytes is over the bound of {RECORD_BYTES_MAX}"
        );
        self.out[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    }
}

/// Decodes a batch for the router, record by record. Bodies are slices of the batch.
///
/// Errors: the other side does not keep to the layout; nothing after the error is read. Close the link.
pub fn decode_to_router(batch: Bytes) -> Records<ToRouter> {
    Records {
        rest: batch,
        records: PhantomData,
    }
}

/// Decodes a batch of the router, record by record. Bodies are slices of the batch.
///
/// Errors: the other side does not keep to the layout; nothing after the error is read. Close the link.
pub fn decode_from_router(batch: Bytes) -> Records<FromRouter> {
    Records {
        rest: batch,
        records: PhantomData,
    }
}

/// The records of a batch, decoded as they are asked for.
#[derive(Debug)]
pub struct Records<T> {
    rest: Bytes,
    records: PhantomData<T>,
}

impl<T: Record> Iterator for Records<T> {
    type Item = Result<T, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let decoded = split_record(&mut self.rest).and_then(|record| T::read(&record));
        if decoded.is_err() {
            self.rest.clear();
        }
        Some(decoded)
    }
}

impl<T: Record> FusedIterator for Records<T> {}

fn split_record(rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length: u32 = Reader::borrowed(rest).field("record length")?;
    let length = length as usize;
    if length > RECORD_BYTES_MAX {
        return Err(DecodeError::new("record length", Fault::OutOfBounds));
    }
    if rest.len() - LENGTH_BYTES < length {
        return Err(DecodeError::new("record", Fault::CutShort));
    }
    let mut record = rest.split_to(LENGTH_BYTES + length);
    Ok(record.split_off(LENGTH_BYTES))
}

/// A direction of the link: a closed set of records, each with its kind byte.
pub trait Record: Sized + sealed::Sealed {
    /// Appends kind and fields.
    #[doc(hidden)]
    fn write(&self, out: &mut Vec<u8>);
    /// Reads kind and fields, which must be the whole of `record`.
    #[doc(hidden)]
    fn read(record: &Bytes) -> Result<Self, DecodeError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ToRouter {}
    impl Sealed for super::FromRouter {}
}

/// Implements [`Record`] from a table of kind bytes, variants, and the names that faults are reported under.
macro_rules! records {
    ($direction:ident { $($kind:literal => $variant:ident $name:literal,)+ }) => {
        impl Record for $direction {
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(record) => {
                        out.push($kind);
                        Layout::write(record, out);
                    })+
                }
            }

            fn read(record: &Bytes) -> Result<Self, DecodeError> {
                let mut input = Reader::shared(record);
                let decoded = match input.field("record kind")? {
                    $($kind => Self::$variant(input.field($name)?),)+
                    unknown => return Err(DecodeError::new("record kind", Fault::UnknownKind(unknown))),
                };
                input.finish("record")?;
                Ok(decoded)
            }
        }
    };
}

records! {
    ToRouter {
        1 => Hello "hello",
        2 => SessionOpen "session open",
        3 => SessionClose "session close",
        4 => Send "send",
        5 => Ack "ack",
        6 => Status "status",
        7 => History "history",
        8 => Conversations "conversations",
    }
}

records! {
    FromRouter {
        1 => SessionOpened "session opened",
        2 => SessionRefused "session refused",
        3 => SessionReplaced "session replaced",
        4 => Sent "sent",
        5 => Rejected "rejected",
        6 => Deliver "deliver",
        7 => Synced "synced",
        8 => StatusUpdate "status update",
        9 => HistoryPage "history page",
        10 => ConversationsPage "conversations page",
        11 => Done "done",
        12 => Failed "failed",
    }
}

layout!(LinkHello {
    version,
    kind,
    node,
    epoch,
    worker
});
layout!(
    SessionOpen { connection, user, device, session, cursor, forwarded, window }
    check "session open" |open| open.device != DeviceId::API && (1..=WINDOW_MAX).contains(&open.window)
);
layout!(SessionRef {
    connection,
    user,
    device
});
layout!(SendRecord {
    request,
    message_id,
    draft
});
layout!(AckRecord {
    user,
    device,
    session,
    position
});
layout!(StatusRecord {
    request,
    user,
    device,
    command
});
layout!(
    HistoryRecord { request, user, conversation, before, limit }
    check "limit" |history| (1..=PAGE_LIMIT_MAX).contains(&history.limit)
);
layout!(
    ConversationsRecord { request, user, limit, before }
    check "limit" |conversations| (1..=PAGE_LIMIT_MAX).contains(&conversations.limit)
);

layout!(SessionOpened {
    connection,
    session,
    cursor,
    resumed,
    resync
});
layout!(SessionRefused {
    connection,
    code,
    reason
});
layout!(SentRecord {
    request,
    message_id,
    conversation,
    seq,
    timestamp,
    duplicate
});
layout!(RejectedRecord {
    request,
    code,
    reason,
    retry_after_ms
});
layout!(Deliver { message, to });
layout!(Synced { connection, cursor });
layout!(StatusUpdateRecord {
    conversation,
    user,
    status,
    seq,
    message_id,
    to
});
layout!(HistoryPageRecord {
    request,
    conversation,
    messages,
    more,
    delivered,
    read
});
layout!(ConversationsPageRecord {
    request,
    conversations,
    more
});
layout!(SummaryRecord {
    conversation,
    with,
    last_body,
    last_time,
    last_seq,
    next,
    unread,
    delivered,
    read
});
layout!(FailedRecord {
    request,
    code,
    reason
});

impl Layout for RequestId {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.field("request").map(Self)
    }
}

impl Layout for LinkKind {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::read(input)? {
            1 => Ok(Self::Gateway),
            2 => Ok(Self::Api),
            3 => Ok(Self::Router),
            unknown => Err(DecodeError::new("link kind", Fault::UnknownKind(unknown))),
        }
    }
}

const LENGTH_BYTES: usize = 4;
/// What a batch starts with: a few sends, so that a quiet link seldom grows it.
const BATCH_BYTES_RESERVED: usize = 1_024;

const _: () = assert!(RECORD_BYTES_MAX + LENGTH_BYTES <= BATCH_BYTES_MAX / 2); // A batch that is not full takes any record.

#[cfg(test)]
mod tests;
