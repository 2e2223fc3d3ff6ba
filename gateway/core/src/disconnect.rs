//! Why connections end: a closed table, so that every end has one reason, one code and one counter.

use wire_ws::Violation;

/// Who has to change something so that this does not happen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client or its user.
    Client,
    /// The path between client and gateway.
    Network,
    /// This process or its operator.
    Gateway,
    /// The router, or the way to it.
    Router,
    /// The stores behind the router.
    Backend,
}

impl Side {
    /// Returns the label of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Network => "network",
            Self::Gateway => "gateway",
            Self::Router => "router",
            Self::Backend => "backend",
        }
    }
}

/// What follows from a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Code of the close frame; `None` where none is sent, or where it repeats the client's.
    pub code: Option<u16>,
    /// The side at fault, a label of the metric.
    pub side: Side,
    /// The client may come back by itself.
    pub may_reconnect: bool,
    /// Label of metrics.
    pub label: &'static str,
    /// Reason of the close frame, for the person who wrote the client; at most 123 bytes.
    pub text: &'static str,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident: $code:expr, $side:ident, $may_reconnect:ident, $label:literal, $text:literal;)*) => {
        /// Why a connection ended. docs/protocol.md section 8 lists the codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// Returns the row of the table.
            pub const fn disconnect(self) -> Disconnect {
                match self {
                    $(Self::$reason => Disconnect {
                        code: $code,
                        side: Side::$side,
                        may_reconnect: $may_reconnect,
                        label: $label,
                        text: $text,
                    },)*
                }
            }

            /// Returns the labels of its counter.
            pub(crate) const fn labels(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$reason => const { &[("reason", $label), ("side", Side::$side.label())] },)*
                }
            }
        }
    };
}

reasons! {
    /// The client sent a close frame; its code is repeated.
    ClientClosed: None, Client, true, "client_closed", "";
    /// The client ended its stream without a close frame.
    ClientLeft: None, Client, true, "client_left", "";
    /// The client left before its upgrade was complete.
    UpgradeAborted: None, Client, true, "upgrade_aborted", "";
    /// No whole HTTP request within 5 s.
    UpgradeTimeout: None, Client, true, "upgrade_timeout", "";
    /// The request was refused by an HTTP status, which has its own counter.
    UpgradeRefused: None, Client, false, "upgrade_refused", "";
    /// A breach of RFC 6455.
    ProtocolError: Some(1002), Client, false, "protocol_error", "protocol error";
    /// A binary frame in a text subprotocol.
    UnsupportedData: Some(1003), Client, false, "unsupported_data", "tidegate.json.v1 has text frames only";
    /// Text that is not UTF-8.
    InvalidText: Some(1007), Client, false, "invalid_text", "not UTF-8";
    /// A message in too many fragments.
    TooManyFragments: Some(1008), Client, false, "too_many_fragments", "too many fragments";
    /// A message that did not arrive whole within 30 s.
    MessageTimeout: Some(1008), Client, true, "message_timeout", "message incomplete after 30 s";
    /// More pings and pongs than allowed.
    PingFlood: Some(1008), Client, true, "ping_flood", "too many pings";
    /// A frame or message over 128 KiB.
    MessageTooBig: Some(1009), Client, false, "message_too_big", "message too big";
    /// No valid hello within 5 s.
    NoHello: Some(4400), Client, false, "no_hello", "no valid hello within 5 s";
    /// A command before hello.
    CommandBeforeHello: Some(4400), Client, false, "command_before_hello", "a command before hello";
    /// No token anywhere.
    TokenMissing: Some(4401), Client, false, "token_missing", "no token";
    /// A token that is not valid.
    TokenInvalid: Some(4401), Client, false, "token_invalid", "token not valid";
    /// The token expired during the session.
    TokenExpired: Some(4402), Client, true, "token_expired", "token expired";
    /// The token, the path and hello do not name one user.
    UserMismatch: Some(4403), Client, false, "user_mismatch", "another user than the token's or the path's";
    /// The token and hello do not name one device.
    DeviceMismatch: Some(4403), Client, false, "device_mismatch", "another device than the token's";
    /// More bytes or frames waited for the client than its outbox may hold.
    SlowOutbox: Some(4408), Client, true, "slow_outbox", "slow consumer: outbox full";
    /// Unsent bytes made no progress for 30 s.
    SlowProgress: Some(4408), Client, true, "slow_progress", "slow consumer: no progress for 30 s";
    /// The outboxes of the worker were full, and this one was among the largest.
    SlowWorker: Some(4408), Client, true, "slow_worker", "slow consumer: the gateway ran out of memory for outboxes";
    /// A newer connection of the same device.
    Replaced: Some(4409), Client, false, "replaced", "replaced by a newer connection of this device";
    /// More malformed commands than allowed.
    TooManyBadRequests: Some(4413), Client, true, "too_many_bad_requests", "more than 10 bad requests a minute";
    /// The worker holds as many connections as it may.
    TooManyConnections: Some(4429), Gateway, true, "too_many_connections", "too many connections";
    /// The connection was reset, or a send failed.
    Reset: None, Network, true, "reset", "";
    /// Two pings without any answer.
    PingTimeout: Some(1008), Network, true, "ping_timeout", "no answer to two pings";
    /// A fault of the gateway's own.
    Internal: Some(1011), Gateway, true, "internal", "internal error";
    /// The worker has no memory for more incomplete input.
    Overloaded: Some(1013), Gateway, true, "overloaded", "try again later";
    /// The gateway shuts down.
    Draining: Some(4503), Gateway, true, "draining", "the server is draining";
    /// An upgrade while the gateway shuts down; answered by HTTP 503.
    UpgradeDraining: None, Gateway, true, "upgrade_draining", "";
    /// No router answered hello within 5 s.
    NoRouter: Some(4503), Router, true, "no_router", "no router within 5 s of hello";
    /// The router's storage takes nothing now, so it opens no session of a new device.
    StorageUnavailable: Some(4503), Backend, true, "storage_unavailable", "storage takes no new session now";
    /// The router would not take the session back after a broken link, or could not go on with it.
    SessionLost: Some(4503), Router, true, "session_lost", "the session could not be continued";
}

impl Reason {
    /// Returns the number of reasons.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// Returns the reason of a breach of RFC 6455.
    pub const fn of_violation(violation: Violation) -> Self {
        match violation.close_code() {
            1003 => Self::UnsupportedData,
            1007 => Self::InvalidText,
            1008 => Self::TooManyFragments,
            1009 => Self::MessageTooBig,
            _ => Self::ProtocolError,
        }
    }
}

#[cfg(test)]
mod tests {
    use wire_ws::is_close_code;

    use super::*;

    #[test]
    fn every_code_may_travel_and_every_text_fits_a_close_frame() {
        for reason in Reason::ALL {
            let Disconnect { code, text, .. } = reason.disconnect();
            assert!(code.is_none_or(is_close_code), "{reason:?}");
            assert!(text.len() <= 123, "{reason:?}");
            assert_eq!(code.is_some(), !text.is_empty(), "{reason:?}");
        }
    }

    #[test]
    fn labels_are_unique_and_the_table_is_in_the_order_of_the_enum() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let same = Reason::ALL
                .iter()
                .filter(|other| other.disconnect().label == reason.disconnect().label);
            assert_eq!(same.count(), 1, "{reason:?}");
        }
    }

    #[test]
    fn codes_tell_clients_whether_to_reconnect_as_the_protocol_says() {
        // docs/protocol.md section 8: who may reconnect.
        for (code, may_reconnect) in [
            (4400, false),
            (4401, false),
            (4402, true),
            (4403, false),
            (4408, true),
            (4409, false),
            (4413, true),
            (4429, true),
            (4503, true),
        ] {
            let rows: Vec<Disconnect> = Reason::ALL
                .iter()
                .map(|reason| reason.disconnect())
                .filter(|row| row.code == Some(code))
                .collect();
            assert!(!rows.is_empty(), "{code}");
            assert!(
                rows.iter().all(|row| row.may_reconnect == may_reconnect),
                "{code}"
            );
        }
    }

    #[test]
    fn a_violation_has_the_reason_of_its_code() {
        assert_eq!(Reason::of_violation(Violation::Unmasked), Reason::ProtocolError);
        for violation in [
            Violation::BinaryMessage,
            Violation::InvalidUtf8,
            Violation::TooManyFragments,
            Violation::FrameTooBig,
            Violation::CloseCode,
        ] {
            assert_eq!(
                Reason::of_violation(violation).disconnect().code,
                Some(violation.close_code())
            );
        }
    }
}
