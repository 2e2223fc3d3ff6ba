//! What checking a token costs here and by `jsonwebtoken::decode`, which checks less of it, on the same tokens in one run:
//! `cargo run --release -p wire-auth --example verify_cost`.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures, which the crate itself never does"
)]

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Value, json};
use wire_auth::{Algorithm, Verifier};
use wire_base::ids::UnixMs;

const SECRET: &[u8] = b"a secret of no less than 32 bytes";
const RSA: [&[u8]; 2] = [
    include_bytes!("../tests/keys/rfc7515_a2_rsa.public.pem"),
    include_bytes!("../tests/keys/rfc7515_a2_rsa.private.pem"),
];
const EC: [&[u8]; 2] = [
    include_bytes!("../tests/keys/rfc7515_a3_ec.public.pem"),
    include_bytes!("../tests/keys/rfc7515_a3_ec.private.pem"),
];
const ED: [&[u8]; 2] = [
    include_bytes!("../tests/keys/rfc8037_a1_ed25519.public.pem"),
    include_bytes!("../tests/keys/rfc8037_a1_ed25519.private.pem"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = UnixMs::from(SystemTime::now());
    let claims = json!({ "sub": "7", "exp": now.0 / 1000 + 3600, "iss": "us", "aud": ["mail", "chat"], "scope": "read" });
    let cases = [
        (
            Algorithm::Hs256,
            Verifier::hs256(SECRET)?,
            DecodingKey::from_secret(SECRET),
            EncodingKey::from_secret(SECRET),
        ),
        (
            Algorithm::Rs256,
            Verifier::public_key_pem(Algorithm::Rs256, RSA[0])?,
            DecodingKey::from_rsa_pem(RSA[0])?,
            EncodingKey::from_rsa_pem(RSA[1])?,
        ),
        (
            Algorithm::Es256,
            Verifier::public_key_pem(Algorithm::Es256, EC[0])?,
            DecodingKey::from_ec_pem(EC[0])?,
            EncodingKey::from_ec_pem(EC[1])?,
        ),
        (
            Algorithm::EdDsa,
            Verifier::public_key_pem(Algorithm::EdDsa, ED[0])?,
            DecodingKey::from_ed_pem(ED[0])?,
            EncodingKey::from_ed_pem(ED[1])?,
        ),
    ];
    println!("{:<8}{:>12}{:>12}", "", "here, us", "decode, us");
    for (algorithm, verifier, key, signer) in cases {
        let verifier = verifier.issuer("us".to_owned()).audience("chat".to_owned());
        let mut validation = Validation::new(algorithm.into());
        validation.set_issuer(&["us"]);
        validation.set_audience(&["chat"]);
        validation.validate_nbf = true;
        let token = encode(&Header::new(algorithm.into()), &claims, &signer)?;
        let (mut here, mut by_decode) = (Duration::MAX, Duration::MAX);
        // In turns, the best of many: what else the machine does falls on both.
        for _ in 0..ROUNDS {
            here = here.min(timed(|| verifier.verify(black_box(&token), now).is_ok()));
            by_decode = by_decode.min(timed(|| {
                decode::<Value>(black_box(&token), &key, &validation).is_ok()
            }));
        }
        println!(
            "{:<8}{:>12.2}{:>12.2}",
            algorithm.name(),
            micros(here),
            micros(by_decode)
        );
    }
    Ok(())
}

fn timed(check: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    for _ in 0..CHECKS {
        assert!(check(), "the token is good");
    }
    started.elapsed()
}

fn micros(all: Duration) -> f64 {
    all.as_secs_f64() * 1e6 / f64::from(CHECKS)
}

const ROUNDS: usize = 20;
const CHECKS: u32 = 200;
