//! Turns the settings of `[auth]` into what the listeners check tokens with.

use std::path::Path;

use anyhow::Result;
use wire_auth::{Algorithm as TokenAlgorithm, Verifier};

use crate::exit::Usage;
use crate::settings::{Algorithm, AuthSettings};

/// Below this a secret of HS256 can be guessed, in bytes (RFC 7518 section 3.2: at least the size of the hash output).
const SECRET_BYTES_SAFE: usize = 32;

/// Returns the verifier of the configured algorithm; `None` in development mode.
///
/// Errors: [`Usage`] naming the setting whose file cannot be used.
pub(crate) fn verifier(settings: &AuthSettings) -> Result<Option<Verifier>> {
    let verifier = if let Some(path) = &settings.jwt_hs256_secret_file {
        let secret = secret(path)?;
        if secret.len() < SECRET_BYTES_SAFE {
            let bytes = secret.len();
            tracing::warn!(
                bytes,
                "auth.jwt_hs256_secret_file: a secret of less than {SECRET_BYTES_SAFE} bytes"
            );
        }
        Verifier::hs256(&secret)
            .map_err(|error| Usage(format!("auth.jwt_hs256_secret_file: {}: {error}", path.display())))?
    } else if let (Some(path), Some(algorithm)) = (&settings.jwt_public_key, settings.jwt_alg) {
        let algorithm = match algorithm {
            Algorithm::Rs256 => TokenAlgorithm::Rs256,
            Algorithm::Es256 => TokenAlgorithm::Es256,
            Algorithm::EdDsa => TokenAlgorithm::EdDsa,
        };
        let pem = read("auth.jwt_public_key", path)?;
        Verifier::public_key_pem(algorithm, &pem)
            .map_err(|error| Usage(format!("auth.jwt_public_key: {}: {error}", path.display())))?
    } else {
        return Ok(None);
    };
    let verifier = match &settings.jwt_issuer {
        Some(issuer) => verifier.issuer(issuer.clone()),
        None => verifier,
    };
    Ok(Some(match &settings.jwt_audience {
        Some(audience) => verifier.audience(audience.clone()),
        None => verifier,
    }))
}

/// Reads a shared secret; one final line break is not part of it.
///
/// Errors: [`Usage`] for a file that cannot be read or is empty.
pub(crate) fn secret(path: &Path) -> Result<Vec<u8>> {
    let mut secret = read("auth.jwt_hs256_secret_file", path)?;
    for ending in [b'\n', b'\r'] {
        if secret.last() == Some(&ending) {
            secret.pop();
        }
    }
    if secret.is_empty() {
        return Err(Usage(format!("auth.jwt_hs256_secret_file: {} is empty", path.display())).into());
    }
    Ok(secret)
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Usage(format!("{setting}: {}: {error}", path.display())).into())
}
