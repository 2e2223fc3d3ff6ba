//! Finding the end of an HTTP head that may arrive byte by byte.

/// Longest head, with its empty line.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most header lines of a head.
pub const HEADERS_MAX: usize = 64;

/// How far the search for the end of a head has come.
///
/// Shape: each byte is looked at once, however the head is cut into reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScan {
    scanned_bytes: u16,
    lines: u16,
}

/// A head that no further byte can make good; the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Longer than [`HEAD_BYTES_MAX`].
    #[error("head over {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// More lines than [`HEADERS_MAX`] and the first.
    #[error("over {HEADERS_MAX} header lines")]
    TooManyHeaders,
    /// A line feed without carriage return, which proxies read differently (RFC 9112 section 2.2).
    #[error("line feed without carriage return")]
    BareLineFeed,
    /// A control character: not HTTP, perhaps TLS.
    #[error("not HTTP")]
    ControlCharacter,
}

/// The start of a head whose rest has not arrived.
///
/// Shape: at most [`HEAD_BYTES_MAX`] bytes, growing with what arrives.
#[derive(Default)]
pub struct HeadBuffer {
    bytes: Vec<u8>,
    scan: HeadScan,
}

impl HeadScan {
    /// Returns the scan of a new head.
    pub const fn new() -> Self {
        Self {
            scanned_bytes: 0,
            lines: 0,
        }
    }

    /// Returns where the head at the front of `received` ends, its empty line included; `None` if it goes on.
    ///
    /// Order: `received` always starts with the bytes of the call before.
    pub fn find_end(&mut self, received: &[u8]) -> Result<Option<usize>, HeadError> {
        let window = &received[..received.len().min(HEAD_BYTES_MAX)];
        for (at, &byte) in window.iter().enumerate().skip(usize::from(self.scanned_bytes)) {
            match byte {
                b'\n' if at == 0 || window[at - 1] != b'\r' => return Err(HeadError::BareLineFeed),
                b'\n' if window[..=at].ends_with(b"\r\n\r\n") => return Ok(Some(at + 1)),
                b'\n' if usize::from(self.lines) > HEADERS_MAX => return Err(HeadError::TooManyHeaders),
                b'\n' => self.lines += 1,
                b'\t' | b'\r' | b' '..=b'~' | 0x80..=0xff => {}
                _ => return Err(HeadError::ControlCharacter),
            }
        }
        self.scanned_bytes = window.len() as u16;
        if window.len() == HEAD_BYTES_MAX {
            Err(HeadError::TooLong)
        } else {
            Ok(None)
        }
    }
}

const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize);

impl HeadBuffer {
    /// Copies what belongs to the head out of `received`; once the head is complete, returns how many bytes that was.
    ///
    /// Shape: what follows them in `received` is frames. `None` means that all of `received` was copied.
    pub fn push(&mut self, received: &[u8]) -> Result<Option<usize>, HeadError> {
        let before = self.bytes.len();
        let room = HEAD_BYTES_MAX - before;
        self.bytes
            .extend_from_slice(&received[..received.len().min(room)]);
        let end = self.scan.find_end(&self.bytes)?;
        Ok(end.map(|end| {
            self.bytes.truncate(end);
            end - before
        }))
    }

    /// Returns the head so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes of memory held on the heap.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}
