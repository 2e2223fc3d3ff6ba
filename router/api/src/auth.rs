//! Who calls: the bearer token of a request, and which users its bearer may act as.

use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};
use wire_auth::Verifier;
use wire_base::host;
use wire_base::ids::{UnixMs, UserId};

use super::problem::{Kind, Problem};

/// How callers prove who they are.
pub enum Auth {
    /// A bearer token that this verifier accepts.
    Tokens(Verifier),
    /// Nobody proves anything: every request is trusted, unless a page makes it that is neither of this machine nor of
    /// `origins`. Only for a listener on loopback.
    InsecureDev {
        /// Origins of other pages that may ask, compared exactly.
        origins: Vec<String>,
    },
}

/// The bearer of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Acts as itself only.
    User(UserId),
    /// Acts as anyone; it may have an identity of its own.
    Trusted(Option<UserId>),
}

impl Auth {
    /// Checks which page asks, where no token says who does.
    ///
    /// Errors: `Forbidden`; `BadRequest` for a header that says two things, or none that can be read.
    pub(super) fn check_page(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Self::InsecureDev { origins } = self else {
            return Ok(());
        };
        let (host, origin) = (only(headers, HOST)?, only(headers, ORIGIN)?);
        if host::is_local(host, origin, origins) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Forbidden,
            "Host and Origin: without tokens only loopback and gateway.allowed_origins may ask",
        ))
    }

    /// Returns the caller of a request with these headers.
    ///
    /// Errors: `Unauthorized`, with the reason, without a valid token.
    pub(super) fn caller(&self, headers: &HeaderMap, now: UnixMs) -> Result<Caller, Problem> {
        let verifier = match self {
            Self::InsecureDev { .. } => return Ok(Caller::Trusted(None)),
            Self::Tokens(verifier) => verifier,
        };
        let token = bearer(headers)?;
        let claims = verifier
            .verify(token, now)
            .map_err(|error| Problem::new(Kind::Unauthorized, format!("the token is not valid: {error}")))?;
        Ok(if claims.service {
            Caller::Trusted(Some(claims.user))
        } else {
            Caller::User(claims.user)
        })
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(unauthorized("send one header `Authorization: Bearer <token>`"));
    };
    let value = value
        .to_str()
        .map_err(|_| unauthorized("the header Authorization is not ASCII text"))?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(unauthorized(
            "the header Authorization must read `Bearer <token>`",
        )),
    }
}

/// Returns the value of a header that may stand once.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let value = values.next().map(HeaderValue::to_str).transpose();
    match (value, values.next()) {
        (Ok(value), None) => Ok(value),
        _ => Err(Problem::new(
            Kind::BadRequest,
            format!("the header {name} must stand once, as ASCII text"),
        )),
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(Kind::Unauthorized, detail)
}

impl Caller {
    /// Returns `user` when the caller may act as it; `field` is where the request named it.
    pub(super) fn acting_as(self, user: UserId, field: &str) -> Result<UserId, Problem> {
        match self {
            Self::Trusted(_) => Ok(user),
            Self::User(own) if own == user => Ok(user),
            Self::User(_) => Err(Problem::new(
                Kind::Forbidden,
                format!("{field}: must be the subject of the token"),
            )),
        }
    }

    /// Returns the caller's own identity, the default of `user_id`.
    pub(super) fn own(self) -> Option<UserId> {
        match self {
            Self::User(user) => Some(user),
            Self::Trusted(user) => user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_bearer_header_is_a_token() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            bearer(&headers)
                .map(str::to_owned)
                .map_err(|problem| problem.kind())
        };
        assert_eq!(read(&["Bearer a.b.c"]), Ok("a.b.c".into()));
        assert_eq!(read(&["bearer  a.b.c "]), Ok("a.b.c".into()));
        for bad in [&[][..], &["Basic xyz"], &["a.b.c"], &["Bearer a", "Bearer b"]] {
            assert_eq!(read(bad), Err(Kind::Unauthorized), "{bad:?}");
        }
    }

    #[test]
    fn without_tokens_a_page_must_be_of_this_machine() {
        let auth = Auth::InsecureDev {
            origins: vec!["https://app.example".to_owned()],
        };
        let check = |headers: &[(HeaderName, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            auth.check_page(&map).map_err(|problem| problem.kind())
        };
        let here = (HOST, "127.0.0.1:9001");
        assert_eq!(check(std::slice::from_ref(&here)), Ok(()));
        assert_eq!(check(&[here.clone(), (ORIGIN, "http://localhost:3000")]), Ok(()));
        assert_eq!(check(&[here.clone(), (ORIGIN, "https://app.example")]), Ok(()));
        for foreign in [
            &[here.clone(), (ORIGIN, "https://evil.example")][..],
            &[here.clone(), (ORIGIN, "null")],
            &[(HOST, "evil.example:9001")],
            &[],
        ] {
            assert_eq!(check(foreign), Err(Kind::Forbidden), "{foreign:?}");
        }
        let twice = [here.clone(), (HOST, "evil.example")];
        assert_eq!(check(&twice), Err(Kind::BadRequest));
    }

    #[test]
    fn a_user_acts_as_itself_and_a_service_as_anyone() {
        let user = |id| UserId::new(id).unwrap();
        assert!(Caller::User(user(1)).acting_as(user(1), "user_id").is_ok());
        assert_eq!(
            Caller::User(user(1)).acting_as(user(2), "sender_id").unwrap_err(),
            Problem::new(Kind::Forbidden, "sender_id: must be the subject of the token")
        );
        assert!(Caller::Trusted(None).acting_as(user(2), "user_id").is_ok());
    }
}
