//! The sizes of docs/protocol.md section 1, with their relations checked at compile time.

/// Largest WebSocket frame and message, both ways; larger: close 1009 from the header alone.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;
/// Longest text content, in Unicode scalar values.
pub const CONTENT_CHARS_MAX: usize = 10_000;
/// Longest ciphertext of a send, decoded.
pub const CIPHERTEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest `media_url`.
pub const MEDIA_URL_BYTES_MAX: usize = 2_048;
/// Longest `kind`.
pub const KIND_BYTES_MAX: usize = 64;
/// Most commands or events in one batch frame.
pub const BATCH_MESSAGES_MAX: usize = 100;
/// Most entries a page of history, conversations or presence may ask for.
pub const PAGE_LIMIT_MAX: u32 = 100;
/// Entries of a page that names no limit.
pub const PAGE_LIMIT_DEFAULT: u32 = 50;
/// Longest `next` of a page, which comes back as `before`.
pub const PAGE_TOKEN_BYTES_MAX: usize = 128;
/// Most users one `presence` may name.
pub const PRESENCE_USERS_MAX: usize = 100;
/// Largest and default `window`: messages a device may have un-acked.
pub const WINDOW_MAX: u16 = 256;
/// See [`WINDOW_MAX`].
pub const WINDOW_DEFAULT: u16 = 64;
/// Bytes a device may have un-acked (at least one message always passes).
pub const WINDOW_BYTES_MAX: usize = 128 * 1024;
/// How far ahead of the server's clock the time inside a UUIDv7 may be.
pub const MESSAGE_ID_AHEAD_MS_MAX: u64 = 60_000;
/// How old the time inside a UUIDv7 may be: 29 days.
pub const MESSAGE_ID_AGE_MS_MAX: u64 = 29 * 24 * 3600 * 1000;
/// Largest token, checked before parsing.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Largest encoded [`crate::body::Body`]: content or ciphertext, media URL, kind, and their lengths.
pub const BODY_BYTES_MAX: usize = CIPHERTEXT_BYTES_MAX + MEDIA_URL_BYTES_MAX + KIND_BYTES_MAX + 32;

const _: () = assert!(CONTENT_CHARS_MAX * 4 <= CIPHERTEXT_BYTES_MAX); // The ciphertext bound covers any text.
const _: () = assert!(CIPHERTEXT_BYTES_MAX * 4 / 3 + MEDIA_URL_BYTES_MAX * 6 + 2_048 <= FRAME_BYTES_MAX); // One send fits a frame.
const _: () = assert!(CIPHERTEXT_BYTES_MAX <= WINDOW_BYTES_MAX);
