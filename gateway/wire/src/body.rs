//! What a sender wrote. It is encoded once at the edge and stays that run of bytes on the link, in the log and in the store.

use bytes::Bytes;

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

/// A [`Body`] in its one byte layout; cheap to clone and to pass on.
///
/// Shape: always decodable: only [`Body::encode`] and [`EncodedBody::parse`] make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBody(pub(crate) Bytes);
