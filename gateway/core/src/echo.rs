//! Echo: every message comes back. For conformance suites and engine benchmarks; no sessions, no authentication.

use wire_base::ids::ConnectionHandle;
use wire_ws::upgrade::{Refusal, Request};
use wire_ws::{Opcode, Role, Rules};

use crate::application::{Accepted, Application};
use crate::connections::{Connections, SlowReaders};
use crate::time::Now;

/// Settings of [`Echo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoConfig {
    /// Largest message and frame, in bytes (default and at most 64 MiB). A connection may hold this much.
    pub message_bytes_max: usize,
}

impl Default for EchoConfig {
    fn default() -> Self {
        Self {
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }
}

/// The application that sends every message back, at any path and without a subprotocol.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    config: EchoConfig,
}

impl Echo {
    /// Returns the application. A larger `message_bytes_max` counts as 64 MiB.
    pub fn new(config: EchoConfig) -> Self {
        Self {
            config: EchoConfig {
                message_bytes_max: config.message_bytes_max.min(MESSAGE_BYTES_MAX),
            },
        }
    }
}

impl Application for Echo {
    type Session = ();

    const SLOW_READERS: SlowReaders = SlowReaders::Wait;

    fn rules(&self) -> Rules {
        Rules {
            role: Role::Server,
            frame_bytes_max: self.config.message_bytes_max,
            message_bytes_max: self.config.message_bytes_max,
            fragments_max: FRAGMENTS_MAX,
            takes_binary: true,
        }
    }

    fn is_endpoint(&self, _: &str) -> bool {
        true
    }

    fn upgrade(&mut self, _: &Request<'_>, _: Now) -> Result<Accepted<()>, Refusal> {
        Ok(Accepted {
            session: (),
            subprotocol: None,
            close: None,
        })
    }

    #[inline]
    fn handle_text(&mut self, connections: &mut Connections<()>, id: ConnectionHandle, text: &str, now: Now) {
        connections.send_frame(id, Opcode::Text, text.as_bytes(), now);
    }

    #[inline]
    fn handle_binary(
        &mut self,
        connections: &mut Connections<()>,
        id: ConnectionHandle,
        bytes: &[u8],
        now: Now,
    ) {
        connections.send_frame(id, Opcode::Binary, bytes, now);
    }
}

const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Autobahn case 9.3.1 sends 4 MiB in fragments of 64 bytes.
const FRAGMENTS_MAX: u32 = 1 << 20;
