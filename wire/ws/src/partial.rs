//! What a connection holds while a header, a frame or a message is incomplete.

use super::header::{HEADER_BYTES_MAX, Header, Opcode};
use super::mask::{mask, rotate};
use super::rules::Rules;
use super::utf8::ArrivingText;
use super::violation::Violation;

/// The incomplete input of one connection.
#[derive(Default)]
pub(super) struct Partial {
    header: ArrivingHeader,
    frame: Option<ArrivingFrame>,
    message: Option<ArrivingMessage>,
    /// Payload of a control frame that is cut by a read; it may stand between the fragments of `message`.
    control: Vec<u8>,
}

/// A payload that has arrived in pieces and is now complete.
pub(super) enum Finished {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A control frame.
    Control(Opcode, Vec<u8>),
}

#[derive(Default)]
struct ArrivingHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

struct ArrivingFrame {
    fin: bool,
    control: Option<Opcode>,
    /// Rotated as bytes arrive, so that it always fits the next one.
    key: Option<[u8; 4]>,
    missing_bytes: usize,
}

struct ArrivingMessage {
    payload: ArrivingPayload,
    fragments: u32,
}

enum ArrivingPayload {
    Text(ArrivingText),
    Binary(Vec<u8>),
}

impl Partial {
    /// Returns whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.header.len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Returns the bytes of memory held, this struct included.
    pub(super) fn held_bytes(&self) -> usize {
        let message = match &self.message {
            None => 0,
            Some(ArrivingMessage {
                payload: ArrivingPayload::Text(text),
                ..
            }) => text.held_bytes(),
            Some(ArrivingMessage {
                payload: ArrivingPayload::Binary(bytes),
                ..
            }) => bytes.capacity(),
        };
        size_of::<Self>() + self.control.capacity() + message
    }

    /// Returns whether the payload of a frame is still arriving.
    pub(super) fn is_in_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// Returns whether part of a header was kept.
    pub(super) fn is_in_header(&self) -> bool {
        self.header.len > 0
    }

    /// Keeps the start of a header.
    pub(super) fn keep_header(&mut self, start: &[u8]) {
        self.header.bytes[..start.len()].copy_from_slice(start);
        self.header.len = start.len() as u8;
    }

    /// Completes the kept header from `input`; also returns how much of `input` belonged to it.
    pub(super) fn complete_header(
        &mut self,
        input: &[u8],
        rules: &Rules,
    ) -> Result<Option<(Header, usize)>, Violation> {
        let kept = usize::from(self.header.len);
        let copied = input.len().min(HEADER_BYTES_MAX - kept);
        self.header.bytes[kept..kept + copied].copy_from_slice(&input[..copied]);
        let Some((header, header_bytes)) = Header::decode(
            &self.header.bytes[..kept + copied],
            rules.role,
            rules.frame_bytes_max,
        )?
        else {
            // Fewer than 14 bytes in all, so `input` was copied whole.
            self.header.len += copied as u8;
            return Ok(None);
        };
        self.header.len = 0;
        Ok(Some((header, header_bytes - kept)))
    }

    /// Checks a data frame against the message it continues or starts, before any of its payload is taken.
    ///
    /// Source: RFC 6455 section 5.4.
    pub(super) fn check_data(
        partial: Option<&Self>,
        header: &Header,
        rules: &Rules,
    ) -> Result<(), Violation> {
        let message = partial.and_then(|partial| partial.message.as_ref());
        let before = match (header.opcode, message) {
            (Opcode::Continuation, None) => return Err(Violation::UnexpectedContinuation),
            (Opcode::Continuation, Some(message)) => {
                if message.fragments >= rules.fragments_max {
                    return Err(Violation::TooManyFragments);
                }
                message.payload.len()
            }
            (_, Some(_)) => return Err(Violation::InterleavedMessage),
            (Opcode::Binary, None) if !rules.takes_binary => return Err(Violation::BinaryMessage),
            (_, None) => 0,
        };
        // Both terms are bounded by lengths that fit in memory.
        if before as u64 + header.payload_bytes > rules.message_bytes_max as u64 {
            return Err(Violation::MessageTooBig);
        }
        Ok(())
    }

    /// Starts a frame whose header passed every check.
    pub(super) fn begin_frame(&mut self, header: &Header) {
        let control = header.opcode.is_control().then_some(header.opcode);
        let payload = match header.opcode {
            Opcode::Text => Some(ArrivingPayload::Text(ArrivingText::default())),
            Opcode::Binary => Some(ArrivingPayload::Binary(Vec::new())),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => None,
        };
        if let Some(payload) = payload {
            self.message = Some(ArrivingMessage {
                payload,
                fragments: 0,
            });
        }
        if let (None, Some(message)) = (control, &mut self.message) {
            message.fragments += 1;
        }
        self.frame = Some(ArrivingFrame {
            fin: header.fin,
            control,
            key: header.mask,
            missing_bytes: header.payload_bytes as usize, // Checked against the rules, so it fits.
        });
    }

    /// Returns how many bytes of the current frame are still to come.
    pub(super) fn missing_bytes(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.missing_bytes)
    }

    /// Takes the next bytes of the current frame, at most [`Partial::missing_bytes`], and unmasks them in place.
    ///
    /// Errors: `InvalidUtf8` at the first byte that cannot belong to any text.
    pub(super) fn push_payload(&mut self, chunk: &mut [u8], rules: &Rules) -> Result<(), Violation> {
        let Some(frame) = &mut self.frame else {
            return Ok(());
        };
        if let Some(key) = &mut frame.key {
            mask(chunk, *key, 0);
            *key = rotate(*key, chunk.len());
        }
        frame.missing_bytes -= chunk.len();
        let (None, Some(message)) = (frame.control, &mut self.message) else {
            self.control.extend_from_slice(chunk);
            return Ok(());
        };
        // The size of a message is known once its last frame is: never double past it.
        let known_end = message.payload.len() + chunk.len() + frame.missing_bytes;
        let bytes_max = if frame.fin {
            known_end
        } else {
            rules.message_bytes_max
        };
        match &mut message.payload {
            ArrivingPayload::Text(text) => {
                text.push(chunk, bytes_max).map_err(|_| Violation::InvalidUtf8)?;
            }
            ArrivingPayload::Binary(bytes) => {
                let wanted = capacity_for(bytes.capacity(), bytes.len() + chunk.len(), bytes_max);
                bytes.reserve_exact(wanted - bytes.len());
                bytes.extend_from_slice(chunk);
            }
        }
        Ok(())
    }

    /// Ends the current frame, whose payload is complete; returns what it completes.
    pub(super) fn end_frame(&mut self) -> Result<Option<Finished>, Violation> {
        let Some(frame) = self.frame.take() else {
            return Ok(None);
        };
        if let Some(opcode) = frame.control {
            return Ok(Some(Finished::Control(opcode, std::mem::take(&mut self.control))));
        }
        if !frame.fin {
            return Ok(None);
        }
        Ok(match self.message.take().map(|message| message.payload) {
            None => None,
            Some(ArrivingPayload::Binary(bytes)) => Some(Finished::Binary(bytes)),
            Some(ArrivingPayload::Text(text)) => {
                Some(Finished::Text(text.finish().map_err(|_| Violation::InvalidUtf8)?))
            }
        })
    }
}

impl ArrivingPayload {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// Returns the capacity for `needed` bytes: doubles, so that dripped bytes are not copied over and over, but stays
/// within `bytes_max`, and follows what has arrived, so that declaring a length costs the peer its bytes.
pub(super) fn capacity_for(capacity: usize, needed: usize, bytes_max: usize) -> usize {
    if needed <= capacity {
        capacity
    } else {
        needed.max((capacity * 2).min(bytes_max))
    }
}
