//! Byte layout of log records: kind, layout version, time, and the fields in the order listed.

use bytes::Bytes;

use super::{
    AckInput, Delivered, DeviceInput, FanoutInput, Input, LogRecord, Recipient, SendInput, StatusInput,
};
use wire_base::codec::{DecodeError, Fault, Layout, Reader, layout};
use wire_base::ids::UnixMs;

impl LogRecord {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match &self.input {
            Input::Send(_) => KIND_SEND,
            Input::Ack(_) => KIND_ACK,
            Input::Status(_) => KIND_STATUS,
            Input::Device(_) => KIND_DEVICE,
            Input::Fanout(_) => KIND_FANOUT,
        };
        out.extend_from_slice(&[kind, VERSION]);
        self.time.write(out);
        match &self.input {
            Input::Send(input) => input.write(out),
            Input::Ack(input) => input.write(out),
            Input::Status(input) => input.write(out),
            Input::Device(input) => input.write(out),
            Input::Fanout(input) => input.write(out),
        }
    }

    /// Decodes one record, which must be all of `bytes`. The body is a slice of them.
    ///
    /// Errors: names the field. The bytes passed the checksum of the log, so another version wrote them: stop, do not skip.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut input = Reader::shared(&bytes);
        let kind = input.field("record kind")?;
        let version = input.field("record version")?;
        if version != VERSION {
            return Err(DecodeError::new("record version", Fault::UnknownVersion(version)));
        }
        let time = input.field("time")?;
        let fact = match kind {
            KIND_SEND => Input::Send(input.field("send")?),
            KIND_ACK => Input::Ack(input.field("ack")?),
            KIND_STATUS => Input::Status(input.field("status")?),
            KIND_DEVICE => Input::Device(input.field("device")?),
            KIND_FANOUT => Input::Fanout(input.field("fanout")?),
            unknown => return Err(DecodeError::new("record kind", Fault::UnknownKind(unknown))),
        };
        input.finish("record")?;
        Ok(Self { time, input: fact })
    }

    /// Returns the time of an encoded record without decoding the rest; `None` when another version wrote it.
    pub fn time_of(bytes: &[u8]) -> Option<UnixMs> {
        let [_, VERSION, time @ ..] = bytes else {
            return None;
        };
        time.first_chunk().map(|time| UnixMs(u64::from_le_bytes(*time)))
    }
}

layout!(SendInput { message_id, draft });
layout!(AckInput {
    user,
    device,
    session,
    position,
    delivered
});
layout!(Delivered {
    conversation,
    seq,
    message_id
});
layout!(StatusInput {
    user,
    device,
    conversation,
    status,
    seq,
    message_id
});
layout!(DeviceInput {
    user,
    device,
    session
});
layout!(FanoutInput {
    message,
    origin,
    recipients
});
layout!(Recipient { user, prev_seq });

const KIND_SEND: u8 = 1;
const KIND_ACK: u8 = 2;
const KIND_STATUS: u8 = 3;
const KIND_DEVICE: u8 = 4;
const KIND_FANOUT: u8 = 5;
/// Raised when the fields of any kind change.
const VERSION: u8 = 2;

#[cfg(test)]
mod tests;
