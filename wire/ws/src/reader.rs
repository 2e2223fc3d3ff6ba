//! Received bytes to items.

use super::close::CloseFrame;
use super::header::{Header, Opcode};
use super::mask::mask;
use super::partial::{Finished, Partial};
use super::rules::Rules;
use super::violation::Violation;

/// The receiving half of one connection, between reads.
///
/// Shape: 8 bytes; allocates only while a frame or message is incomplete, and frees that as soon as it is not.
#[derive(Default)]
pub struct Reader {
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Reader>() == 8);

/// What one read received, consumed from the front.
pub struct Input<'a> {
    rest: &'a mut [u8],
    /// Owns the last item that was completed from pieces, so that the reader itself is already free again.
    finished: Option<Finished>,
}

/// A message, or a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A heartbeat, or the answer to a ping.
    Pong(&'a [u8]),
    /// To be answered by a close frame; nothing behind it is parsed.
    Close(Option<CloseFrame<'a>>),
}

impl Reader {
    /// Returns the reader of a new connection.
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// Returns the next item; `None` once all of `input` is consumed.
    ///
    /// Shape: a message whose frame is whole in `input` is unmasked in place and borrowed from it, without allocation;
    /// one that arrived in pieces is borrowed from a buffer that lives until the next call.
    /// Errors: the peer's fault; send [`Violation::close_code`]. After a violation, as after [`Item::Close`], `input` is
    /// spent, and the caller gives this reader no other.
    /// Source: RFC 6455 sections 5 and 8.1.
    #[inline]
    pub fn next<'i>(
        &mut self,
        input: &'i mut Input<'_>,
        rules: &Rules,
    ) -> Result<Option<Item<'i>>, Violation> {
        input.finished = None;
        let found = self.find(input, rules);
        let Input { rest, finished } = input;
        let item = match found {
            Ok(None) => return Ok(None),
            Ok(Some(Found::Whole(opcode, payload))) => Item::decode(opcode, payload),
            Ok(Some(Found::Finished(payload))) => Item::of_finished(finished.insert(payload)),
            Err(violation) => Err(violation),
        };
        if matches!(item, Err(_) | Ok(Item::Close(_))) {
            *rest = &mut [];
            self.partial = None;
        }
        item.map(Some)
    }

    /// Returns whether a frame or message has begun and is incomplete.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Returns the bytes of memory held beyond the reader itself; 0 unless partial.
    pub fn partial_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.held_bytes())
    }

    #[inline]
    fn find<'a>(&mut self, input: &mut Input<'a>, rules: &Rules) -> Result<Option<Found<'a>>, Violation> {
        loop {
            if let Some(partial) = self
                .partial
                .as_deref_mut()
                .filter(|partial| partial.is_in_frame())
            {
                partial.push_payload(input.take(partial.missing_bytes()), rules)?;
                if partial.missing_bytes() > 0 {
                    return Ok(None);
                }
                let finished = partial.end_frame()?;
                self.free_if_empty();
                if let Some(finished) = finished {
                    return Ok(Some(Found::Finished(finished)));
                }
            }
            let Some(header) = self.take_header(input, rules)? else {
                return Ok(None);
            };
            let is_control = header.opcode.is_control();
            if !is_control {
                Partial::check_data(self.partial.as_deref(), &header, rules)?;
            }
            let is_whole = is_control || (header.fin && header.opcode != Opcode::Continuation);
            if is_whole && header.payload_bytes <= input.rest.len() as u64 {
                self.free_if_empty();
                let payload = input.take(header.payload_bytes as usize);
                if let Some(key) = header.mask {
                    mask(payload, key, 0);
                }
                return Ok(Some(Found::Whole(header.opcode, payload)));
            }
            self.partial.get_or_insert_default().begin_frame(&header);
        }
    }

    /// Takes a header from `input`, or keeps the start of one.
    #[inline]
    fn take_header(&mut self, input: &mut Input<'_>, rules: &Rules) -> Result<Option<Header>, Violation> {
        let found = match self.partial.as_deref_mut() {
            Some(partial) if partial.is_in_header() => partial.complete_header(input.rest, rules)?,
            _ => Header::decode(input.rest, rules.role, rules.frame_bytes_max)?,
        };
        let Some((header, header_bytes)) = found else {
            if !input.rest.is_empty() {
                self.keep_header(input);
            }
            return Ok(None);
        };
        input.take(header_bytes);
        Ok(Some(header))
    }

    #[cold]
    fn keep_header(&mut self, input: &mut Input<'_>) {
        let start = input.take(usize::MAX);
        let partial = self.partial.get_or_insert_default();
        // A header begun before has already taken them, in `complete_header`.
        if !partial.is_in_header() {
            partial.keep_header(start);
        }
    }

    fn free_if_empty(&mut self) {
        if self.partial.as_deref().is_some_and(Partial::is_empty) {
            self.partial = None;
        }
    }
}

impl<'a> Input<'a> {
    /// Wraps received bytes. They are unmasked in place as they are consumed.
    pub const fn new(received: &'a mut [u8]) -> Self {
        Self {
            rest: received,
            finished: None,
        }
    }

    /// Returns the bytes not yet consumed, as they were received: what a caller that stops early must keep.
    pub const fn rest(&self) -> &[u8] {
        self.rest
    }

    /// Takes up to `bytes` from the front.
    #[inline]
    fn take(&mut self, bytes: usize) -> &'a mut [u8] {
        let rest = std::mem::take(&mut self.rest);
        let (taken, rest) = rest.split_at_mut(bytes.min(rest.len()));
        self.rest = rest;
        taken
    }
}

enum Found<'a> {
    /// A frame that was whole in the input; its payload, unmasked.
    Whole(Opcode, &'a [u8]),
    /// One that was not.
    Finished(Finished),
}

impl<'a> Item<'a> {
    #[inline]
    fn decode(opcode: Opcode, payload: &'a [u8]) -> Result<Self, Violation> {
        Ok(match opcode {
            Opcode::Text => {
                Self::Text(simdutf8::basic::from_utf8(payload).map_err(|_| Violation::InvalidUtf8)?)
            }
            Opcode::Binary => Self::Binary(payload),
            Opcode::Ping => Self::Ping(payload),
            Opcode::Pong => Self::Pong(payload),
            Opcode::Close => Self::Close(CloseFrame::decode(payload)?),
            Opcode::Continuation => unreachable!("a continuation is never whole by itself"),
        })
    }

    fn of_finished(finished: &'a Finished) -> Result<Self, Violation> {
        match finished {
            Finished::Text(text) => Ok(Self::Text(text)),
            Finished::Binary(bytes) => Ok(Self::Binary(bytes)),
            Finished::Control(opcode, payload) => Self::decode(*opcode, payload),
        }
    }
}
