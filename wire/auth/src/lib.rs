//! Bearer tokens (JWT, RFC 7519): verification for both listeners, and development tokens.
//!
//! The algorithm is fixed by configuration; a token that names another is refused before its signature is looked at. The
//! signature is checked before a single claim is read, and time comes in as a fact. Keys and signatures are the library's
//! part (`jsonwebtoken`); form, claims and time are decided here, so that every refusal has its own reason.
//!
//! Why not its `decode` with a `Validation`, as of version 10.4: it reads the system's clock, in whole seconds; it does not look
//! at `crit`, which RFC 7515 section 4.1.11 tells to refuse; it refuses a header with a field of its own that is no string, which
//! section 4 tells to ignore and some issuers write; it takes a list of issuers; and it tells an unknown `alg` from a broken
//! header by no more than a text. An HS256 token takes 2.0 us here and 3.6 us there (`examples/verify_cost.rs`); with the other
//! algorithms the signature is nearly all of it, the same both ways.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header};
use rsa::RsaPublicKey;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Map, Value, json};

use wire_base::ids::{DeviceId, UnixMs, UserId};
use wire_base::limits::TOKEN_BYTES_MAX;

/// Checks tokens against one key, one algorithm, and the issuer and audience if they are set.
///
/// Shape: one for a worker or for all; checking needs no exclusive access.
#[derive(Clone)]
pub struct Verifier {
    algorithm: Algorithm,
    key: DecodingKey,
    issuer: Option<String>,
    audience: Option<String>,
}

/// How far the clocks of issuer and server may differ, in ms: `exp` is honoured so much longer, `nbf` so much earlier.
pub const TOKEN_LEEWAY_MS: u64 = 5_000;

/// How tokens are signed (RFC 7518, RFC 8037). Configuration writes the name of the RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A secret shared with the issuer.
    Hs256,
    /// RSA, PKCS #1 v1.5.
    Rs256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// What a token that was verified says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub user: UserId,
    /// `dev`: the only device this token is good for.
    pub device: Option<DeviceId>,
    /// `exp`, without the leeway.
    pub expires: UnixMs,
    /// `scope` contains `service`: may act for any user over HTTP.
    pub service: bool,
}

/// Why a token is refused: the client's fault, always. The text names the claim and repeats nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not looked at.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three parts, or a part that is not what it should be.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `alg` is not the one that is configured.
    #[error("alg: not the algorithm that this server takes")]
    WrongAlgorithm,
    /// Made with another key, or changed.
    #[error("the signature does not match")]
    BadSignature,
    /// `exp` has passed.
    #[error("exp: the token has expired")]
    Expired,
    /// `nbf` is still to come.
    #[error("nbf: the token is not valid yet")]
    NotYetValid,
    /// `iss` is not the one that is configured.
    #[error("iss: not the issuer that this server takes tokens from")]
    WrongIssuer,
    /// `aud` does not contain the one that is configured.
    #[error("aud: the token is meant for another service")]
    WrongAudience,
    /// `sub` is no user id.
    #[error("sub: must be a user id, 1 to 2^53-1, as a decimal string")]
    BadSubject,
    /// `dev` is no device id.
    #[error("dev: must be a device id, 1 to 2^31-1")]
    BadDevice,
}

/// Why a key cannot be used: the operator's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Anybody could sign with it.
    #[error("the secret is empty")]
    EmptySecret,
    /// HS256 has no public key: whoever can verify can sign.
    #[error("HS256 takes a secret, not a public key")]
    NoPublicKey,
    /// Not a key of the algorithm.
    #[error("not a public key for {0} in PEM form")]
    NotAKey(Algorithm),
    /// RFC 7518 section 3.3 asks for more.
    #[error("an RSA key must have at least 2,048 bits")]
    WeakKey,
}

impl Verifier {
    /// Takes the secret of HS256. RFC 7518 section 3.2 asks for 32 bytes or more; shorter ones are for development.
    ///
    /// Errors: `EmptySecret`.
    pub fn hs256(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::EmptySecret);
        }
        Ok(Self::new(Algorithm::Hs256, DecodingKey::from_secret(secret)))
    }

    /// Takes the public key of the other algorithms.
    ///
    /// Errors: the key is checked here, once, and not at the first token.
    pub fn public_key_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, KeyError> {
        let parsed = match algorithm {
            Algorithm::Hs256 => return Err(KeyError::NoPublicKey),
            Algorithm::Rs256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::Es256 => DecodingKey::from_ec_pem(pem),
            Algorithm::EdDsa => DecodingKey::from_ed_pem(pem),
        };
        let key = parsed.map_err(|_| KeyError::NotAKey(algorithm))?;
        check_key(algorithm, &key)?;
        Ok(Self::new(algorithm, key))
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        Self {
            algorithm,
            key,
            issuer: None,
            audience: None,
        }
    }

    /// Asks for this `iss`.
    pub fn issuer(self, issuer: String) -> Self {
        Self {
            issuer: Some(issuer),
            ..self
        }
    }

    /// Asks for this `aud`, alone or in a list.
    pub fn audience(self, audience: String) -> Self {
        Self {
            audience: Some(audience),
            ..self
        }
    }

    /// Returns what a token says, if it is good at this time.
    ///
    /// Errors: the first of size, form, algorithm, signature, times, issuer, audience, subject, device that is wrong.
    /// Source: RFC 7515 section 5.2, RFC 7519 section 7.2, RFC 8725 (best practices).
    pub fn verify(&self, token: &str, now: UnixMs) -> Result<Claims, TokenError> {
        let payload = self.verify_signature(token)?;
        let claims: Map<String, Value> = serde_json::from_slice(&payload)
            .map_err(|_| TokenError::Malformed("the claims are not a JSON object"))?;
        let expires =
            time(&claims, "exp", "exp is not a number")?.ok_or(TokenError::Malformed("exp is missing"))?;
        if now.0 >= expires.0.saturating_add(TOKEN_LEEWAY_MS) {
            return Err(TokenError::Expired);
        }
        if time(&claims, "nbf", "nbf is not a number")?
            .is_some_and(|from| now.0.saturating_add(TOKEN_LEEWAY_MS) < from.0)
        {
            return Err(TokenError::NotYetValid);
        }
        if self
            .issuer
            .as_deref()
            .is_some_and(|issuer| claims.get("iss").and_then(Value::as_str) != Some(issuer))
        {
            return Err(TokenError::WrongIssuer);
        }
        if self
            .audience
            .as_deref()
            .is_some_and(|audience| !names(claims.get("aud"), audience, |one| vec![one]))
        {
            return Err(TokenError::WrongAudience);
        }
        let user = number(claims.get("sub"))
            .and_then(UserId::new)
            .ok_or(TokenError::BadSubject)?;
        let device = match claims.get("dev") {
            None | Some(Value::Null) => None,
            dev => Some(number(dev).and_then(device_id).ok_or(TokenError::BadDevice)?),
        };
        let service = names(claims.get("scope"), "service", |scopes| {
            scopes.split(' ').collect()
        });
        Ok(Claims {
            user,
            device,
            expires,
            service,
        })
    }

    /// Returns the payload of a token that this key has signed.
    fn verify_signature(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let three_parts = TokenError::Malformed("it has not three parts");
        let (message, signature) = token.rsplit_once('.').ok_or(three_parts)?;
        let (header, payload) = message.split_once('.').ok_or(three_parts)?;
        if payload.contains('.') {
            return Err(three_parts);
        }
        let header = part(header, "the header is not base64url")?;
        let header: Map<String, Value> = serde_json::from_slice(&header)
            .map_err(|_| TokenError::Malformed("the header is not a JSON object"))?;
        match header.get("alg").and_then(Value::as_str) {
            None => return Err(TokenError::Malformed("alg is missing")),
            Some(name) if name != self.algorithm.name() => return Err(TokenError::WrongAlgorithm),
            Some(_) => {}
        }
        if header.contains_key("crit") {
            return Err(TokenError::Malformed(
                "crit names extensions, and none are known here",
            ));
        }
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, self.algorithm.into()) {
            Ok(true) => part(payload, "the claims are not base64url"),
            Ok(false) | Err(_) => Err(TokenError::BadSignature),
        }
    }
}

/// Shows no key.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Verifier({}, issuer {:?}, audience {:?})",
            self.algorithm, self.issuer, self.audience
        )
    }
}

/// Returns a token as an issuer would make it: for `tidegate token`, tests and the load tool.
pub fn issue_hs256(
    secret: &[u8],
    claims: &Claims,
    issuer: Option<&str>,
    audience: Option<&str>,
    now: UnixMs,
) -> String {
    let mut payload = json!({
        "sub": claims.user.get().to_string(),
        "iat": now.0 / 1000,
        "exp": claims.expires.0 / 1000,
    });
    let optional = [
        ("dev", claims.device.map(|device| json!(device.get()))),
        ("scope", claims.service.then(|| json!("service"))),
        ("iss", issuer.map(|issuer| json!(issuer))),
        ("aud", audience.map(|audience| json!(audience))),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            payload[name] = value;
        }
    }
    jsonwebtoken::encode(&Header::default(), &payload, &EncodingKey::from_secret(secret))
        .expect("a JSON value serializes, and HMAC takes any secret")
}

impl Algorithm {
    /// Returns the name of the RFCs, as in `alg` and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be HS256, RS256, ES256 or EdDSA")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let all = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];
        all.into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or(UnknownAlgorithm)
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::HS256,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Es256 => Self::ES256,
            Algorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// Checks what the library takes as it is and would stumble over at the first token.
fn check_key(algorithm: Algorithm, key: &DecodingKey) -> Result<(), KeyError> {
    // An empty signature is good for nothing; it is an error only where the key is at fault.
    let takes_signatures = || jsonwebtoken::crypto::verify("", b"", key, algorithm.into()).is_ok();
    let usable = match algorithm {
        Algorithm::Rs256 => match RsaPublicKey::from_pkcs1_der(key.as_bytes()) {
            Ok(key) if key.n().bits() < RSA_KEY_BITS_MIN => return Err(KeyError::WeakKey),
            parsed => parsed.is_ok(),
        },
        // The library cuts the first 32 bytes out, there or not.
        Algorithm::EdDsa => key.as_bytes().len() == ED25519_KEY_BYTES && takes_signatures(),
        Algorithm::Hs256 | Algorithm::Es256 => takes_signatures(),
    };
    if usable {
        Ok(())
    } else {
        Err(KeyError::NotAKey(algorithm))
    }
}

fn part(base64: &str, fault: &'static str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(base64)
        .map_err(|_| TokenError::Malformed(fault))
}

/// Reads a NumericDate: seconds since 1970, fractions allowed; what is before 1970 has passed like 1970 itself.
fn time(claims: &Map<String, Value>, name: &str, fault: &'static str) -> Result<Option<UnixMs>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match (value.as_u64(), value.as_f64()) {
            (Some(seconds), _) => Ok(Some(UnixMs(seconds.saturating_mul(1000)))),
            (None, Some(seconds)) => Ok(Some(UnixMs((seconds * 1000.0) as u64))), // The cast saturates at both ends.
            (None, None) => Err(TokenError::Malformed(fault)),
        },
    }
}

/// Reads a number, or a string of decimal digits as [`u64`] displays it.
fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::String(text) => text
            .parse()
            .ok()
            .filter(|number: &u64| number.to_string() == *text),
        value => value.as_u64(),
    }
}

fn device_id(number: u64) -> Option<DeviceId> {
    u32::try_from(number).ok().and_then(DeviceId::new)
}

/// Returns whether a claim names something: in an array of strings, or in one string that `split` takes apart.
fn names<'a>(claim: Option<&'a Value>, name: &str, split: impl Fn(&'a str) -> Vec<&'a str>) -> bool {
    match claim {
        Some(Value::String(text)) => split(text).contains(&name),
        Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(name)),
        _ => false,
    }
}

const RSA_KEY_BITS_MIN: usize = 2_048;
const ED25519_KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests;
