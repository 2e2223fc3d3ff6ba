//! How a client becomes a session of Tidegate: hello, welcome, backlog, synced. Shared by all modes that log in.

use std::time::Duration;

use wire_auth::{Claims, issue_hs256};
use wire_base::ids::{DeviceId, Position, UnixMs, UserId};
use wire_base::limits::{WINDOW_DEFAULT, WINDOW_MAX};
use wire_client::json::encode_request;
use wire_client::{Command, Hello, Request};

use crate::driver::Peer;
use crate::error::RunError;

/// Who the clients say they are.
#[derive(Clone)]
pub struct Login {
    /// User of the first client (default 1); the others follow.
    pub user_base: u64,
    /// Secret of HS256 tokens; without it the hello names the user, which only a target in `--insecure-dev` believes.
    pub secret: Option<Vec<u8>>,
    /// `iss` of the tokens.
    pub issuer: Option<String>,
    /// `aud` of the tokens.
    pub audience: Option<String>,
    /// Messages in flight to a client without its ack (default 64).
    pub window: u16,
}

impl std::fmt::Debug for Login {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user_base", &self.user_base)
            .field("with_token", &self.secret.is_some())
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Default for Login {
    fn default() -> Self {
        Self {
            user_base: 1,
            secret: None,
            issuer: None,
            audience: None,
            window: WINDOW_DEFAULT,
        }
    }
}

impl Login {
    /// Checks that every client of a run has a user.
    pub(crate) fn check(&self, clients: u32) -> Result<(), RunError> {
        if self.user_base == 0 || self.user_base > UserId::MAX - u64::from(clients) {
            return Err(RunError::usage(
                "--user-base",
                "all user ids must be in 1 to 2^53 - 1",
            ));
        }
        if self.window == 0 || self.window > WINDOW_MAX {
            return Err(RunError::usage("--window", format!("1 to {WINDOW_MAX}")));
        }
        if self.secret.as_ref().is_some_and(Vec::is_empty) {
            return Err(RunError::usage("--token-hs256-secret-file", "the file is empty"));
        }
        Ok(())
    }

    /// Returns the user of a client.
    pub(crate) fn user(&self, client: u32) -> UserId {
        crate::audit::user(self.user_base, client)
    }

    /// Says hello, continuing from `cursor` if there is one.
    pub(crate) fn say_hello<S>(&self, peer: &mut Peer<'_, S>, cursor: Option<Position>, now: UnixMs) {
        let user = self.user(peer.number);
        let token = self.secret.as_ref().map(|secret| self.token(secret, user, now));
        let hello = Hello {
            user: token.is_none().then_some(user),
            token: token.as_deref(),
            device: Some(DeviceId::DEFAULT),
            cursor,
            window: self.window,
        };
        peer.send_text(|out| {
            encode_request(
                &Request {
                    id: None,
                    command: Command::Hello(hello),
                },
                out,
            )
        });
    }

    fn token(&self, secret: &[u8], user: UserId, now: UnixMs) -> String {
        let expires = UnixMs(now.0 + TOKEN_LIFE.as_millis() as u64);
        let claims = Claims {
            user,
            device: None,
            expires,
            service: false,
        };
        issue_hs256(
            secret,
            &claims,
            self.issuer.as_deref(),
            self.audience.as_deref(),
            now,
        )
    }
}

/// Where a mode that logs in connects to, unless the target's address says otherwise.
pub(crate) const PATH: &str = "/ws";
/// What it speaks there.
pub(crate) const SUBPROTOCOLS: &[&str] = &["tidegate.json.v1"];

/// Longer than any run.
const TOKEN_LIFE: Duration = Duration::from_secs(100 * 3600);

/// Returns whether docs/protocol.md section 8 lets a client come back after this close code.
pub(crate) fn may_reconnect(code: u16) -> bool {
    !matches!(code, 1002 | 1003 | 1007 | 1008 | 1009 | 4400 | 4401 | 4403 | 4409)
}
