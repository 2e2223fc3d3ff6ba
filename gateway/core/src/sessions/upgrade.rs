//! What an upgrade request says: path, origin, subprotocol and token.

use wire_auth::Claims;
use wire_base::host;
use wire_base::ids::UserId;
use wire_ws::upgrade::{Refusal, Request};

use super::session::{Flags, Session};
use super::{Auth, SessionsConfig};
use crate::application::Accepted;
use crate::disconnect::Reason;
use crate::time::Now;

/// A path with a WebSocket behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `/ws`.
    Any,
    /// `/ws/{user_id}`.
    User(UserId),
}

/// Returns what a path stands for; `None` where there is nothing.
pub(super) fn endpoint(path: &str) -> Option<Endpoint> {
    let rest = path.strip_prefix("/ws")?;
    if rest.is_empty() {
        return Some(Endpoint::Any);
    }
    let user = rest.strip_prefix('/')?;
    if user.starts_with('0') || !user.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    user.parse().ok().and_then(UserId::new).map(Endpoint::User)
}

/// Decides about a request.
///
/// Errors: what a program can correct is an HTTP status. A browser does not show one to its page, so what a page can
/// cause (a bad token among the subprotocols) is accepted, and closed with a code.
pub(super) fn decide(
    config: &SessionsConfig,
    request: &Request<'_>,
    now: Now,
) -> Result<Accepted<Session>, Refusal> {
    let endpoint = endpoint(request.path).ok_or(Refusal::NotFound)?;
    if is_foreign(config, request) {
        return Err(Refusal::Forbidden);
    }
    let (subprotocol, offered_token) = negotiate(request)?;
    let mut accepted = Accepted {
        session: Session::default(),
        subprotocol,
        close: None,
    };
    if let Endpoint::User(user) = endpoint {
        accepted.session.set_user(user);
        accepted.session.flags.set(Flags::USER_FIXED, true);
    }
    let Auth::Tokens(verifier) = &config.auth else {
        return Ok(accepted);
    };
    if let Some(token) = request.bearer() {
        let claims = verifier
            .verify(token, now.unix)
            .map_err(|_| Refusal::Unauthorized)?;
        take_claims(&mut accepted.session, &claims).map_err(|_| Refusal::Forbidden)?;
    } else if let Some(token) = offered_token {
        accepted.close = match verifier.verify(token, now.unix) {
            Err(_) => Some(Reason::TokenInvalid),
            Ok(claims) => take_claims(&mut accepted.session, &claims).err(),
        };
    }
    Ok(accepted)
}

/// Returns whether a page asks that may not.
fn is_foreign(config: &SessionsConfig, request: &Request<'_>) -> bool {
    let origins = &config.origins;
    match config.auth {
        Auth::Tokens(_) => request
            .origin
            .is_some_and(|origin| !origins.is_empty() && origins.iter().all(|allowed| allowed != origin)),
        Auth::InsecureDev => !host::is_local(Some(request.host), request.origin, origins),
    }
}

/// Takes over what a token says.
///
/// Errors: it speaks of another user, or another device, than what is known already.
pub(super) fn take_claims(session: &mut Session, claims: &Claims) -> Result<(), Reason> {
    if session.flags.contains(Flags::USER_FIXED) && session.user() != Some(claims.user) {
        return Err(Reason::UserMismatch);
    }
    if let Some(device) = claims.device {
        if session.flags.contains(Flags::DEVICE_FIXED) && session.device() != Some(device) {
            return Err(Reason::DeviceMismatch);
        }
        session.set_device(device);
        session.flags.set(Flags::DEVICE_FIXED, true);
    }
    session.set_user(claims.user);
    session.flags.set(Flags::USER_FIXED, true);
    session.set_expires(claims.expires);
    Ok(())
}

/// Returns the subprotocol to name in the response, and the token among the offers.
///
/// Errors: nothing offered is spoken here. Nothing offered at all is JSON, without a name in the response.
fn negotiate<'b>(request: &Request<'b>) -> Result<(Option<&'static str>, Option<&'b str>), Refusal> {
    let mut is_empty = true;
    let mut has_json = false;
    let mut token = None;
    for offer in request.subprotocols() {
        is_empty = false;
        if offer == JSON {
            has_json = true;
        } else if let Some(offered) = offer.strip_prefix(TOKEN_PREFIX) {
            token = token.or(Some(offered));
        }
    }
    match (is_empty, has_json) {
        (true, _) => Ok((None, None)),
        (false, true) => Ok((Some(JSON), token)),
        (false, false) => Err(Refusal::SubprotocolUnknown),
    }
}

/// Text frames of JSON.
pub(super) const JSON: &str = "tidegate.json.v1";
/// For browsers, which cannot set headers; never echoed.
pub(super) const TOKEN_PREFIX: &str = "tidegate.token.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_at_most_a_user() {
        let user = |n| Some(Endpoint::User(UserId::new(n).unwrap()));
        assert_eq!(endpoint("/ws"), Some(Endpoint::Any));
        assert_eq!(endpoint("/ws/7"), user(7));
        assert_eq!(endpoint("/ws/9007199254740991"), user(9_007_199_254_740_991));
        for path in [
            "/",
            "/ws/",
            "/wss",
            "/ws/0",
            "/ws/07",
            "/ws/+7",
            "/ws/7/",
            "/ws/x",
            "/ws/9007199254740992",
            "/ws/99999999999999999999",
            "/WS",
        ] {
            assert_eq!(endpoint(path), None, "{path}");
        }
    }
}
