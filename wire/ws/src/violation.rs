//! What a peer can do wrong with frames, and the close code each earns.

/// A breach of RFC 6455 or of the [`super::Rules`]; always the peer's fault.
///
/// Errors: send a close frame with [`Violation::close_code`] and read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// RSV1, RSV2 or RSV3 set although no extension was negotiated (section 5.2).
    ReservedBits,
    /// Opcode 3 to 7 or 11 to 15 (section 5.2).
    ReservedOpcode,
    /// A control frame without FIN (section 5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (section 5.5).
    ControlTooLong,
    /// A client's frame without mask (section 5.1).
    Unmasked,
    /// A server's frame with a mask (section 5.1).
    Masked,
    /// A length written in more bytes than it needs (section 5.2).
    LengthNotMinimal,
    /// A 64-bit length with its highest bit set (section 5.2).
    LengthOverflow,
    /// A frame over [`super::Rules::frame_bytes_max`].
    FrameTooBig,
    /// A message over [`super::Rules::message_bytes_max`].
    MessageTooBig,
    /// A continuation of nothing (section 5.4).
    UnexpectedContinuation,
    /// A new message inside another (section 5.4).
    InterleavedMessage,
    /// A message in more frames than [`super::Rules::fragments_max`].
    TooManyFragments,
    /// A binary message where [`super::Rules::takes_binary`] says that there are none.
    BinaryMessage,
    /// A close frame of exactly one byte (section 5.5.1).
    CloseLength,
    /// A close code that must not travel (section 7.4).
    CloseCode,
    /// Text or a close reason that is not UTF-8 (sections 8.1 and 5.5.1).
    InvalidUtf8,
}

impl Violation {
    /// Returns the code of the close frame to send (section 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::Unmasked
            | Self::Masked
            | Self::LengthNotMinimal
            | Self::LengthOverflow
            | Self::UnexpectedContinuation
            | Self::InterleavedMessage
            | Self::CloseLength
            | Self::CloseCode => 1002,
            Self::BinaryMessage => 1003,
            Self::InvalidUtf8 => 1007,
            Self::TooManyFragments => 1008,
            Self::FrameTooBig | Self::MessageTooBig => 1009,
        }
    }

    /// Returns the reason of the close frame to send: ASCII, at most 123 bytes.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits set",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::ControlTooLong => "control frame over 125 bytes",
            Self::Unmasked => "client frame not masked",
            Self::Masked => "server frame masked",
            Self::LengthNotMinimal => "length not in its shortest form",
            Self::LengthOverflow => "length over 2^63 - 1",
            Self::FrameTooBig => "frame too big",
            Self::MessageTooBig => "message too big",
            Self::UnexpectedContinuation => "continuation without a message",
            Self::InterleavedMessage => "new message inside a fragmented one",
            Self::TooManyFragments => "too many fragments",
            Self::BinaryMessage => "binary frame where there is text only",
            Self::CloseLength => "close frame of one byte",
            Self::CloseCode => "close code not allowed",
            Self::InvalidUtf8 => "not UTF-8",
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Violation {}
