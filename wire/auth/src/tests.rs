use proptest::prelude::*;

use super::*;

/// RFC 7515 appendix A.1.
const HS256_SECRET: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const HS256_TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
    .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
    .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// RFC 7515 appendix A.2.
const RS256_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9\
    .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
    .cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t\
    1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu\
    sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
/// RFC 7515 appendix A.3.
const ES256_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9\
    .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
    .DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
/// RFC 8037 appendix A.4.
const EDDSA_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc\
    .hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
/// RFC 7515 appendix A.5.
const UNSECURED_TOKEN: &str = "eyJhbGciOiJub25lIn0\
    .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";

const RS256_PUBLIC: &[u8] = include_bytes!("../tests/keys/rfc7515_a2_rsa.public.pem");
const RS256_PRIVATE: &[u8] = include_bytes!("../tests/keys/rfc7515_a2_rsa.private.pem");
const ES256_PUBLIC: &[u8] = include_bytes!("../tests/keys/rfc7515_a3_ec.public.pem");
const ES256_PRIVATE: &[u8] = include_bytes!("../tests/keys/rfc7515_a3_ec.private.pem");
const EDDSA_PUBLIC: &[u8] = include_bytes!("../tests/keys/rfc8037_a1_ed25519.public.pem");
const EDDSA_PRIVATE: &[u8] = include_bytes!("../tests/keys/rfc8037_a1_ed25519.private.pem");
const RSA_1024_PUBLIC: &[u8] = include_bytes!("../tests/keys/rsa_1024.public.pem");
const P384_PUBLIC: &[u8] = include_bytes!("../tests/keys/p384.public.pem");

/// When the tokens of RFC 7515 expire.
const RFC_EXPIRY: UnixMs = UnixMs(1_300_819_380_000);
const NOW: UnixMs = UnixMs(1_800_000_000_000);
const NOW_S: u64 = NOW.0 / 1000;
const SECRET: &[u8] = b"a secret of no less than 32 bytes";

/// The tokens of RFC 7515 have no `sub`, so the furthest they get is `BadSubject`.
#[test]
fn the_sample_tokens_of_the_rfcs_have_good_signatures() {
    let secret = URL_SAFE_NO_PAD.decode(HS256_SECRET).unwrap();
    let samples = [
        (Verifier::hs256(&secret).unwrap(), HS256_TOKEN),
        (verifier(Algorithm::Rs256), RS256_TOKEN),
        (verifier(Algorithm::Es256), ES256_TOKEN),
    ];
    for (verifier, token) in samples {
        let verifier = verifier.issuer("joe".to_owned());
        assert_eq!(verifier.verify(token, RFC_EXPIRY), Err(TokenError::BadSubject));
        assert_eq!(
            verifier.verify(token, UnixMs(RFC_EXPIRY.0 + 4_999)),
            Err(TokenError::BadSubject)
        );
        assert_eq!(
            verifier.verify(token, UnixMs(RFC_EXPIRY.0 + 5_000)),
            Err(TokenError::Expired)
        );
        assert_eq!(
            verifier.issuer("jim".to_owned()).verify(token, RFC_EXPIRY),
            Err(TokenError::WrongIssuer)
        );
    }
    let payload = verifier(Algorithm::EdDsa).verify_signature(EDDSA_TOKEN).unwrap();
    assert_eq!(payload, b"Example of Ed25519 signing");
}

#[test]
fn each_algorithm_takes_its_tokens_and_no_changed_ones() {
    for algorithm in ALGORITHMS {
        let token = signed(algorithm, json!({ "sub": "7", "exp": NOW_S + 60 }));
        let claims = Claims {
            user: user(7),
            device: None,
            expires: UnixMs(NOW.0 + 60_000),
            service: false,
        };
        assert_eq!(verifier(algorithm).verify(&token, NOW), Ok(claims), "{algorithm}");

        let (message, signature) = token.rsplit_once('.').unwrap();
        let other = signed(algorithm, json!({ "sub": "8", "exp": NOW_S + 60 }));
        let swapped = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
        assert_eq!(
            verifier(algorithm).verify(&swapped, NOW),
            Err(TokenError::BadSignature),
            "{algorithm}"
        );
        for bad in ["", "AAAA", "=", "é", &signature[1..], &format!("{signature}AAAA")] {
            let token = format!("{message}.{bad}");
            assert_eq!(
                verifier(algorithm).verify(&token, NOW),
                Err(TokenError::BadSignature),
                "{algorithm} {bad}"
            );
        }
    }
}

#[test]
fn the_algorithm_is_the_servers_choice() {
    for configured in ALGORITHMS {
        for used in ALGORITHMS.into_iter().filter(|used| *used != configured) {
            let token = signed(used, json!({ "sub": "7", "exp": NOW_S + 60 }));
            assert_eq!(
                verifier(configured).verify(&token, NOW),
                Err(TokenError::WrongAlgorithm),
                "{used}"
            );
        }
        assert_eq!(
            verifier(configured).verify(UNSECURED_TOKEN, NOW),
            Err(TokenError::WrongAlgorithm)
        );
        for name in ["none", "None", "NONE", "hs256", "RS512", "ES256K", ""] {
            let token = format!(
                "{}.e30.",
                URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{name}"}}"#))
            );
            assert_eq!(
                verifier(configured).verify(&token, NOW),
                Err(TokenError::WrongAlgorithm),
                "{name}"
            );
        }
    }
}

/// The classic confusion: whoever knows the public key signs with it as if it were a secret.
#[test]
fn a_public_key_used_as_a_secret_is_refused() {
    let claims = Claims {
        user: user(7),
        device: None,
        expires: UnixMs(NOW.0 + 60_000),
        service: true,
    };
    for (algorithm, public) in [
        (Algorithm::Rs256, RS256_PUBLIC),
        (Algorithm::Es256, ES256_PUBLIC),
        (Algorithm::EdDsa, EDDSA_PUBLIC),
    ] {
        for secret in [
            public,
            public.trim_ascii_end(),
            verifier(algorithm).key.as_bytes(),
        ] {
            let forged = issue_hs256(secret, &claims, None, None, NOW);
            assert_eq!(
                verifier(algorithm).verify(&forged, NOW),
                Err(TokenError::WrongAlgorithm)
            );
            let (_, rest) = forged.split_once('.').unwrap();
            let relabelled = format!(
                "{}.{rest}",
                URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#))
            );
            assert_eq!(
                verifier(algorithm).verify(&relabelled, NOW),
                Err(TokenError::BadSignature)
            );
        }
    }
}

#[test]
fn a_token_of_another_key_is_refused() {
    let claims = Claims {
        user: user(7),
        device: None,
        expires: UnixMs(NOW.0 + 60_000),
        service: false,
    };
    let token = issue_hs256(b"another secret", &claims, None, None, NOW);
    assert_eq!(
        verifier(Algorithm::Hs256).verify(&token, NOW),
        Err(TokenError::BadSignature)
    );
}

#[test]
fn times_are_checked_against_the_given_now_with_five_seconds_of_leeway() {
    let at = |claims: Value, now| check(claims, UnixMs(now));
    let exp = json!({ "sub": "7", "exp": NOW_S });
    assert!(at(exp.clone(), 0).is_ok());
    assert!(at(exp.clone(), NOW.0 + 4_999).is_ok());
    assert_eq!(at(exp.clone(), NOW.0 + 5_000), Err(TokenError::Expired));
    assert_eq!(at(exp, u64::MAX), Err(TokenError::Expired));
    let nbf = json!({ "sub": "7", "exp": NOW_S + 60, "nbf": NOW_S });
    assert!(at(nbf.clone(), NOW.0 - 5_000).is_ok());
    assert_eq!(at(nbf, NOW.0 - 5_001), Err(TokenError::NotYetValid));
    let fraction = json!({ "sub": "7", "exp": NOW_S as f64 + 0.5 });
    assert_eq!(
        at(fraction.clone(), NOW.0).map(|claims| claims.expires),
        Ok(UnixMs(NOW.0 + 500))
    );
    assert_eq!(at(fraction, NOW.0 + 5_500), Err(TokenError::Expired));
    for far in [json!(u64::MAX), json!(1e300)] {
        assert_eq!(
            at(json!({ "sub": "7", "exp": far }), NOW.0).map(|claims| claims.expires),
            Ok(UnixMs(u64::MAX))
        );
    }
    assert_eq!(
        at(json!({ "sub": "7", "exp": -1 }), NOW.0),
        Err(TokenError::Expired)
    );
}

#[test]
fn expiry_is_required_and_times_are_numbers() {
    let malformed = |claims: Value| match check(claims, NOW) {
        Err(TokenError::Malformed(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(malformed(json!({ "sub": "7" })), "exp is missing");
    assert_eq!(malformed(json!({ "sub": "7", "exp": null })), "exp is missing");
    assert_eq!(
        malformed(json!({ "sub": "7", "exp": "1800000060" })),
        "exp is not a number"
    );
    assert_eq!(
        malformed(json!({ "sub": "7", "exp": NOW_S, "nbf": [] })),
        "nbf is not a number"
    );
    assert_eq!(malformed(json!([])), "the claims are not a JSON object");
}

#[test]
fn the_subject_is_a_user_id_in_one_spelling() {
    let subject =
        |sub: Value| check(json!({ "sub": sub, "exp": NOW_S }), NOW).map(|claims| claims.user.get());
    assert_eq!(subject(json!("7")), Ok(7));
    assert_eq!(subject(json!(7)), Ok(7));
    assert_eq!(subject(json!("9007199254740991")), Ok(UserId::MAX));
    let bad = [
        "",
        "0",
        "07",
        "+7",
        " 7",
        "7 ",
        "7.0",
        "-7",
        "alice",
        "9007199254740992",
        "18446744073709551616",
        "７",
    ];
    for sub in bad.map(|sub| json!(sub)).into_iter().chain([
        json!(0),
        json!(7.5),
        json!(-7),
        json!(1u64 << 53),
        json!(null),
        json!([7]),
    ]) {
        assert_eq!(subject(sub.clone()), Err(TokenError::BadSubject), "{sub}");
    }
    assert_eq!(check(json!({ "exp": NOW_S }), NOW), Err(TokenError::BadSubject));
}

#[test]
fn a_device_is_optional_and_otherwise_a_device_id() {
    let device =
        |dev: Value| check(json!({ "sub": "7", "exp": NOW_S, "dev": dev }), NOW).map(|claims| claims.device);
    assert_eq!(device(json!(null)), Ok(None));
    assert_eq!(device(json!(3)), Ok(DeviceId::new(3)));
    assert_eq!(device(json!("3")), Ok(DeviceId::new(3)));
    for dev in [
        json!(0),
        json!(1u64 << 31),
        json!(1u64 << 32 | 3),
        json!("x"),
        json!(-1),
        json!(1.5),
        json!({}),
    ] {
        assert_eq!(device(dev.clone()), Err(TokenError::BadDevice), "{dev}");
    }
}

#[test]
fn a_service_is_named_by_one_word_of_the_scope() {
    let service = |scope: Value| {
        check(json!({ "sub": "7", "exp": NOW_S, "scope": scope }), NOW)
            .unwrap()
            .service
    };
    for scope in [
        json!("service"),
        json!("read service write"),
        json!(["service"]),
        json!(["read", "service"]),
    ] {
        assert!(service(scope.clone()), "{scope}");
    }
    for scope in [
        json!(null),
        json!(""),
        json!("services"),
        json!("Service"),
        json!(["read service"]),
        json!([["service"]]),
        json!({ "service": true }),
    ] {
        assert!(!service(scope.clone()), "{scope}");
    }
}

#[test]
fn issuer_and_audience_are_checked_when_they_are_configured() {
    let with = |claims: Value| {
        let mut all = json!({ "sub": "7", "exp": NOW_S });
        all.as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        let verifier = verifier(Algorithm::Hs256)
            .issuer("us".to_owned())
            .audience("chat".to_owned());
        verifier.verify(&signed(Algorithm::Hs256, all), NOW).map(drop)
    };
    assert_eq!(with(json!({ "iss": "us", "aud": "chat" })), Ok(()));
    assert_eq!(with(json!({ "iss": "us", "aud": ["mail", "chat"] })), Ok(()));
    for aud in [
        json!(null),
        json!("mail"),
        json!("mail chat"),
        json!([]),
        json!(["mail"]),
        json!({ "chat": 1 }),
    ] {
        assert_eq!(
            with(json!({ "iss": "us", "aud": aud })),
            Err(TokenError::WrongAudience),
            "{aud}"
        );
    }
    for iss in [json!(null), json!("them"), json!("US"), json!(["us"])] {
        assert_eq!(
            with(json!({ "iss": iss, "aud": "chat" })),
            Err(TokenError::WrongIssuer),
            "{iss}"
        );
    }
    assert!(check(json!({ "sub": "7", "exp": NOW_S, "iss": "x", "aud": "y" }), NOW).is_ok());
}

#[test]
fn form_is_checked_before_anything_else() {
    let verifier = verifier(Algorithm::Hs256);
    let malformed = |token: &str| match verifier.verify(token, NOW) {
        Err(TokenError::Malformed(why)) => why,
        other => panic!("{token}: {other:?}"),
    };
    let good = signed(Algorithm::Hs256, json!({ "sub": "7", "exp": NOW_S }));
    let (_, rest) = good.split_once('.').unwrap();
    let with_header = |header: &str| format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
    for token in ["", ".", "a", "a.b", "a.b.c.d", "é"] {
        assert_eq!(malformed(token), "it has not three parts", "{token}");
    }
    assert_eq!(malformed(&format!("{good}.")), "it has not three parts");
    assert_eq!(malformed(&format!("!.{rest}")), "the header is not base64url");
    assert_eq!(malformed("..."), "it has not three parts");
    assert_eq!(malformed(".."), "the header is not a JSON object");
    assert_eq!(malformed(&with_header("[]")), "the header is not a JSON object");
    assert_eq!(malformed(&with_header("{}")), "alg is missing");
    assert_eq!(malformed(&with_header(r#"{"alg":7}"#)), "alg is missing");
    assert_eq!(
        malformed(&with_header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#)),
        "crit names extensions, and none are known here"
    );
    assert_eq!(
        malformed(&with_header(&"[".repeat(1_000))),
        "the header is not a JSON object"
    );
    assert_eq!(
        verifier.verify(&"a".repeat(TOKEN_BYTES_MAX + 1), NOW),
        Err(TokenError::TooLong)
    );
    assert_eq!(malformed(&"a".repeat(TOKEN_BYTES_MAX)), "it has not three parts");
}

/// RFC 7515 section 4: what is not understood and not in `crit` is ignored, whatever its type.
#[test]
fn a_header_may_have_fields_of_its_issuer() {
    let claims = json!({ "sub": "7", "exp": NOW_S + 60 });
    for own in [
        json!({ "exp": NOW_S, "client": 7 }),
        json!({ "typ": 7, "kid": [] }),
        json!({ "x": { "y": null } }),
    ] {
        let mut header = json!({ "alg": "HS256" });
        header
            .as_object_mut()
            .unwrap()
            .extend(own.as_object().unwrap().clone());
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encoded(&header), encoded(&claims));
        let key = EncodingKey::from_secret(SECRET);
        let algorithm = jsonwebtoken::Algorithm::HS256;
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
        let token = format!("{message}.{signature}");
        let verified = verifier(Algorithm::Hs256).verify(&token, NOW);
        assert_eq!(verified.map(|claims| claims.user), Ok(user(7)), "{own}");
    }
}

#[test]
fn keys_are_checked_when_they_are_configured() {
    let key = |algorithm, pem: &[u8]| Verifier::public_key_pem(algorithm, pem).map(drop);
    let keys = [
        (Algorithm::Rs256, RS256_PUBLIC),
        (Algorithm::Es256, ES256_PUBLIC),
        (Algorithm::EdDsa, EDDSA_PUBLIC),
    ];
    for (algorithm, pem) in keys {
        assert_eq!(key(algorithm, pem), Ok(()));
        for (other, _) in keys.into_iter().filter(|(other, _)| *other != algorithm) {
            assert_eq!(
                key(other, pem),
                Err(KeyError::NotAKey(other)),
                "{algorithm} as {other}"
            );
        }
        for bad in [&b""[..], b"x", &pem[..pem.len() / 2], SECRET] {
            assert_eq!(key(algorithm, bad), Err(KeyError::NotAKey(algorithm)));
        }
    }
    for (algorithm, private) in [
        (Algorithm::Rs256, RS256_PRIVATE),
        (Algorithm::Es256, ES256_PRIVATE),
        (Algorithm::EdDsa, EDDSA_PRIVATE),
    ] {
        assert_eq!(
            key(algorithm, private),
            Err(KeyError::NotAKey(algorithm)),
            "a private key of {algorithm}"
        );
    }
    assert_eq!(key(Algorithm::Rs256, RSA_1024_PUBLIC), Err(KeyError::WeakKey));
    assert_eq!(
        key(Algorithm::Es256, P384_PUBLIC),
        Err(KeyError::NotAKey(Algorithm::Es256))
    );
    assert_eq!(key(Algorithm::Hs256, RS256_PUBLIC), Err(KeyError::NoPublicKey));
    assert_eq!(Verifier::hs256(b"").map(drop), Err(KeyError::EmptySecret));
    // An Ed25519 key of 5 bytes: SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING }.
    let short = "-----BEGIN PUBLIC KEY-----\nMA8wBQYDK2VwAwYAAQIDBAU=\n-----END PUBLIC KEY-----\n";
    assert_eq!(
        key(Algorithm::EdDsa, short.as_bytes()),
        Err(KeyError::NotAKey(Algorithm::EdDsa))
    );
}

#[test]
fn debug_shows_no_key() {
    let verifier = Verifier::hs256(b"hunter2").unwrap().issuer("us".to_owned());
    assert_eq!(
        format!("{verifier:?}"),
        "Verifier(HS256, issuer Some(\"us\"), audience None)"
    );
}

#[test]
fn algorithms_go_by_the_names_of_the_rfcs() {
    for algorithm in ALGORITHMS {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
    assert_eq!("none".parse::<Algorithm>(), Err(UnknownAlgorithm));
}

#[test]
fn every_truncation_of_a_token_is_refused() {
    for algorithm in ALGORITHMS {
        let token = signed(algorithm, json!({ "sub": "7", "exp": NOW_S, "scope": "service" }));
        let verifier = verifier(algorithm);
        for length in 0..token.len() {
            assert!(
                verifier.verify(&token[..length], NOW).is_err(),
                "{algorithm} cut to {length}"
            );
        }
    }
}

proptest! {
    #[test]
    fn issued_tokens_verify_to_what_they_were_issued_for(
        user in wire_base::samples::user(),
        device in proptest::option::of(wire_base::samples::device()),
        seconds in NOW_S..u64::from(u32::MAX),
        service in any::<bool>(),
        issuer in proptest::option::of("[ -~]{0,20}"),
        audience in proptest::option::of("[ -~]{0,20}"),
    ) {
        let claims = Claims { user, device, expires: UnixMs(seconds * 1000), service };
        let token = issue_hs256(SECRET, &claims, issuer.as_deref(), audience.as_deref(), NOW);
        let mut verifier = verifier(Algorithm::Hs256);
        if let Some(issuer) = issuer {
            verifier = verifier.issuer(issuer);
        }
        if let Some(audience) = audience {
            verifier = verifier.audience(audience);
        }
        prop_assert_eq!(verifier.verify(&token, NOW), Ok(claims));
    }

    #[test]
    fn a_changed_token_is_refused(place in any::<prop::sample::Index>(), character in "[A-Za-z0-9_.-]") {
        let token = signed(Algorithm::Hs256, json!({ "sub": "7", "exp": NOW_S + 60 }));
        let place = place.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(place..=place, &character);
        prop_assume!(changed != token);
        prop_assert!(verifier(Algorithm::Hs256).verify(&changed, NOW).is_err());
    }
}

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Hs256,
    Algorithm::Rs256,
    Algorithm::Es256,
    Algorithm::EdDsa,
];

fn verifier(algorithm: Algorithm) -> Verifier {
    match algorithm {
        Algorithm::Hs256 => Verifier::hs256(SECRET),
        Algorithm::Rs256 => Verifier::public_key_pem(algorithm, RS256_PUBLIC),
        Algorithm::Es256 => Verifier::public_key_pem(algorithm, ES256_PUBLIC),
        Algorithm::EdDsa => Verifier::public_key_pem(algorithm, EDDSA_PUBLIC),
    }
    .unwrap()
}

/// What an issuer does.
fn signed(algorithm: Algorithm, claims: Value) -> String {
    let key = match algorithm {
        Algorithm::Hs256 => Ok(EncodingKey::from_secret(SECRET)),
        Algorithm::Rs256 => EncodingKey::from_rsa_pem(RS256_PRIVATE),
        Algorithm::Es256 => EncodingKey::from_ec_pem(ES256_PRIVATE),
        Algorithm::EdDsa => EncodingKey::from_ed_pem(EDDSA_PRIVATE),
    };
    jsonwebtoken::encode(&Header::new(algorithm.into()), &claims, &key.unwrap()).unwrap()
}

fn check(claims: Value, now: UnixMs) -> Result<Claims, TokenError> {
    verifier(Algorithm::Hs256).verify(&signed(Algorithm::Hs256, claims), now)
}

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}
