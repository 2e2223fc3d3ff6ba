//! Reading headers out of a head that `httparse` has accepted.

/// The header lines of a checked head: each a name, a colon, a value, CRLF.
///
/// Shape: borrowed; walks the lines at each question, because a handshake asks few.
#[derive(Clone, Copy)]
pub(super) struct Headers<'b>(&'b [u8]);

/// Why a header that must have one readable value has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Duplicate,
    NotAscii,
}

impl<'b> Headers<'b> {
    /// Returns the lines behind the first one of a checked head.
    pub(super) fn of_head(head: &'b [u8]) -> Self {
        // `httparse` skips empty lines before the first.
        let start = head
            .iter()
            .position(|byte| !matches!(byte, b'\r' | b'\n'))
            .unwrap_or(head.len());
        let lines = head[start..].splitn(2, |&byte| byte == b'\n').nth(1);
        Self(lines.unwrap_or_default())
    }

    /// Returns every header with its value, white space around it removed.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
        self.0.split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// Returns every value of `name`, whatever its case.
    pub(super) fn values(self, name: &'static str) -> impl Iterator<Item = &'b [u8]> {
        self.iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Returns the value of a header that may appear once.
    pub(super) fn only(self, name: &'static str) -> Result<Option<&'b str>, HeaderFault> {
        let mut values = self.values(name);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(HeaderFault::Duplicate);
        }
        ascii(value).ok_or(HeaderFault::NotAscii).map(Some)
    }

    /// Returns the elements of a comma-separated list over all its lines, empty ones left out (RFC 9110 section 5.6.1).
    pub(super) fn elements(self, name: &'static str) -> impl Iterator<Item = &'b [u8]> {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Returns whether a list has `token`, whatever its case.
    pub(super) fn has_token(self, name: &'static str, token: &str) -> bool {
        self.elements(name)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Returns `value` as text if all of it is ASCII.
fn ascii(value: &[u8]) -> Option<&str> {
    value
        .is_ascii()
        .then(|| std::str::from_utf8(value).ok())
        .flatten()
}

/// Returns whether `value` is a token (RFC 9110 section 5.6.2).
pub(super) fn is_token(value: &[u8]) -> bool {
    let is_token_byte = |&byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !value.is_empty() && value.iter().all(is_token_byte)
}
