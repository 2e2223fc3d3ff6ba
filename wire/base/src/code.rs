//! Codes of refusals, the same on a connection, on a link and over HTTP.

/// Codes of `rejected` and `error` (docs/protocol.md section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the protocol's words, explained there")]
pub enum Code {
    BadRequest = 1,
    TooLong = 2,
    NotMember = 3,
    Forbidden = 4,
    UnknownGroup = 5,
    TooManyDevices = 6,
    RateLimited = 7,
    Conflict = 8,
    Busy = 9,
    Unavailable = 10,
}

impl Code {
    /// Every code, in the order of its bytes.
    pub const ALL: [Self; 10] = [
        Self::BadRequest,
        Self::TooLong,
        Self::NotMember,
        Self::Forbidden,
        Self::UnknownGroup,
        Self::TooManyDevices,
        Self::RateLimited,
        Self::Conflict,
        Self::Busy,
        Self::Unavailable,
    ];

    /// Returns the code of a byte on a link.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u8 == byte)
    }

    /// Returns the protocol's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::TooLong => "too_long",
            Self::NotMember => "not_member",
            Self::Forbidden => "forbidden",
            Self::UnknownGroup => "unknown_group",
            Self::TooManyDevices => "too_many_devices",
            Self::RateLimited => "rate_limited",
            Self::Conflict => "conflict",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    /// Returns the code of a word of the protocol.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }
}
