//! `tidegate token`: a development token.

use std::time::SystemTime;

use anyhow::Result;
use wire_auth::{Claims, issue_hs256};
use wire_base::ids::{DeviceId, UnixMs, UserId};

use crate::args::TokenArgs;
use crate::auth;
use crate::exit::Usage;

/// Prints the token on one line.
pub(super) fn run(args: &TokenArgs) -> Result<()> {
    let user =
        UserId::new(args.user).ok_or_else(|| Usage(format!("--user: {} is not 1 to 2^53 - 1", args.user)))?;
    let device = match args.device {
        None => None,
        Some(number) => Some(
            DeviceId::new(number).ok_or_else(|| Usage(format!("--device: {number} is not 1 to 2^31 - 1")))?,
        ),
    };
    let secret = auth::secret(&args.jwt_hs256_secret_file)?;
    let now = UnixMs::from(SystemTime::now());
    let expires = UnixMs(now.0.saturating_add(u64::from(args.seconds) * 1_000));
    let claims = Claims {
        user,
        device,
        expires,
        service: args.service,
    };
    println!(
        "{}",
        issue_hs256(
            &secret,
            &claims,
            args.jwt_issuer.as_deref(),
            args.jwt_audience.as_deref(),
            now
        )
    );
    Ok(())
}
