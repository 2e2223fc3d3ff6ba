//! What a sender wrote. It is encoded once at the edge and stays that run of bytes on the link, in the log and in the store.

use std::fmt;

use bytes::Bytes;

use crate::codec::{DecodeError, Fault, Layout, Reader};
use crate::limits::{
    BODY_BYTES_MAX, CIPHERTEXT_BYTES_MAX, CONTENT_CHARS_MAX, KIND_BYTES_MAX, MEDIA_URL_BYTES_MAX,
};

/// The content of a message: exactly one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// 1 to 10,000 Unicode scalar values.
    Text(&'a str),
    /// Opaque bytes, at most 64 KiB; base64 in JSON.
    Ciphertext(&'a [u8]),
}

/// A message as its sender wrote it: borrowed view of an [`EncodedBody`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// Text or ciphertext.
    pub content: Content<'a>,
    /// Where the media is, at most 2,048 bytes.
    pub media_url: Option<&'a str>,
    /// Opaque label, at most 64 bytes, repeated to the receiver.
    pub kind: Option<&'a str>,
}

/// A field of a body outside its bounds: the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Nothing was written: `bad_request`.
    #[error("{0}: must not be empty")]
    Empty(&'static str),
    /// `too_long`.
    #[error("{field}: at most {max} {unit}")]
    TooLong {
        /// Its name in the protocol.
        field: &'static str,
        /// Its bound: scalar values for content, bytes for the others.
        max: usize,
        /// What the bound counts.
        unit: &'static str,
    },
}

impl Body<'_> {
    /// Checks every field against its bound.
    ///
    /// Errors: names the field; answer `bad_request` or `too_long`.
    pub fn check(&self) -> Result<(), BodyError> {
        let too_long = |field, max, unit| Err(BodyError::TooLong { field, max, unit });
        match self.content {
            Content::Text("") => return Err(BodyError::Empty("content")),
            Content::Text(text) if longer_than(text, CONTENT_CHARS_MAX) => {
                return too_long("content", CONTENT_CHARS_MAX, "characters");
            }
            Content::Ciphertext([]) => return Err(BodyError::Empty("ciphertext")),
            Content::Ciphertext(bytes) if bytes.len() > CIPHERTEXT_BYTES_MAX => {
                return too_long("ciphertext", CIPHERTEXT_BYTES_MAX, "bytes");
            }
            _ => {}
        }
        if self.media_url.is_some_and(|url| url.len() > MEDIA_URL_BYTES_MAX) {
            return too_long("media_url", MEDIA_URL_BYTES_MAX, "bytes");
        }
        if self.kind.is_some_and(|kind| kind.len() > KIND_BYTES_MAX) {
            return too_long("kind", KIND_BYTES_MAX, "bytes");
        }
        Ok(())
    }

    /// Returns the one encoding of this body.
    ///
    /// Shape: a form byte (which fields there are), content with a u32 length, media URL with a u16, kind with a u8.
    /// Panics: when [`Body::check`] was not asked, or refused.
    pub fn encode(&self) -> EncodedBody {
        assert_eq!(self.check(), Ok(()), "a body is checked before it is encoded");
        let (form, content) = match self.content {
            Content::Text(text) => (FORM_TEXT, text.as_bytes()),
            Content::Ciphertext(bytes) => (FORM_CIPHERTEXT, bytes),
        };
        let optional = self.media_url.map_or(0, str::len) + self.kind.map_or(0, str::len) + 3;
        let mut out = Vec::with_capacity(5 + content.len() + optional);
        out.push(form | flag(self.media_url, HAS_MEDIA_URL) | flag(self.kind, HAS_KIND));
        (content.len() as u32).write(&mut out);
        out.extend_from_slice(content);
        if let Some(url) = self.media_url {
            (url.len() as u16).write(&mut out);
            out.extend_from_slice(url.as_bytes());
        }
        if let Some(kind) = self.kind {
            (kind.len() as u8).write(&mut out);
            out.extend_from_slice(kind.as_bytes());
        }
        EncodedBody(out.into())
    }
}

/// A [`Body`] in its one byte layout; cheap to clone and to pass on.
///
/// Shape: always decodable: only [`Body::encode`] and [`EncodedBody::parse`] make one. It may be a slice of a whole link
/// batch and then keeps all of that in memory; see [`EncodedBody::detached`].
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedBody(Bytes);

/// Identity of a body for `conflict`: content or ciphertext, media URL and kind (xxh3, 128 bits, of the encoded body).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyHash(pub u128);

impl EncodedBody {
    /// Takes bytes that say they are an encoded body, without a copy.
    ///
    /// Errors: names the field that is cut short or out of bounds; no content is repeated.
    pub fn parse(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > BODY_BYTES_MAX {
            return Err(DecodeError::new("body", Fault::OutOfBounds));
        }
        read(&bytes)?;
        Ok(Self(bytes))
    }

    /// Returns the view of its fields.
    pub fn decode(&self) -> Body<'_> {
        read(&self.0).expect("the bytes passed this very function when the body was made")
    }

    /// Returns the number of encoded bytes.
    #[expect(clippy::len_without_is_empty, reason = "a body is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the bytes as they travel and are stored.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Returns the hash that decides whether two sends with one message id say the same.
    pub fn hash(&self) -> BodyHash {
        BodyHash(xxhash_rust::xxh3::xxh3_128(&self.0))
    }

    /// Returns a copy that keeps only itself in memory, for a holder that outlives the batch it came in.
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

/// Shows the length only: content belongs to its users and to no log.
impl fmt::Debug for EncodedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedBody({} bytes)", self.len())
    }
}

fn read(bytes: &[u8]) -> Result<Body<'_>, DecodeError> {
    let mut input = Reader::borrowed(bytes);
    let form: u8 = input.field("body form")?;
    let length: u32 = input.field("content")?;
    let content = match form & FORM_MASK {
        FORM_TEXT => Content::Text(text(&mut input, length as usize, "content")?),
        FORM_CIPHERTEXT => Content::Ciphertext(take(&mut input, length as usize, "ciphertext")?),
        _ => return Err(DecodeError::new("body form", Fault::UnknownKind(form))),
    };
    let mut media_url = None;
    if form & HAS_MEDIA_URL != 0 {
        let length: u16 = input.field("media_url")?;
        media_url = Some(text(&mut input, usize::from(length), "media_url")?);
    }
    let mut kind = None;
    if form & HAS_KIND != 0 {
        let length: u8 = input.field("kind")?;
        kind = Some(text(&mut input, usize::from(length), "kind")?);
    }
    input.finish("body")?;
    let body = Body {
        content,
        media_url,
        kind,
    };
    match body.check() {
        Ok(()) => Ok(body),
        Err(BodyError::Empty(field) | BodyError::TooLong { field, .. }) => {
            Err(DecodeError::new(field, Fault::OutOfBounds))
        }
    }
}

fn take<'a>(input: &mut Reader<'a>, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
    input.take(length).map_err(|error| DecodeError { field, ..error })
}

fn text<'a>(input: &mut Reader<'a>, length: usize, field: &'static str) -> Result<&'a str, DecodeError> {
    simdutf8::basic::from_utf8(take(input, length, field)?)
        .map_err(|_| DecodeError::new(field, Fault::NotUtf8))
}

/// Counts only where the number of bytes leaves it open.
fn longer_than(text: &str, chars_max: usize) -> bool {
    text.len() > chars_max && (text.len() > 4 * chars_max || text.chars().count() > chars_max)
}

fn flag(field: Option<&str>, bit: u8) -> u8 {
    if field.is_some() { bit } else { 0 }
}

/// The form byte: what the content is, and which of the optional fields follow. The other bits are 0.
const FORM_TEXT: u8 = 1;
const FORM_CIPHERTEXT: u8 = 2;
const HAS_MEDIA_URL: u8 = 0x10;
const HAS_KIND: u8 = 0x20;
const FORM_MASK: u8 = !(HAS_MEDIA_URL | HAS_KIND);

const _: () = assert!(MEDIA_URL_BYTES_MAX <= u16::MAX as usize && KIND_BYTES_MAX <= u8::MAX as usize);

#[cfg(test)]
mod tests;
