use proptest::prelude::*;

use super::*;
use crate::samples::owned_body;

fn text_body(text: &str) -> Body<'_> {
    Body {
        content: Content::Text(text),
        media_url: None,
        kind: None,
    }
}

#[test]
fn the_layout_is_the_published_one() {
    assert_eq!(
        text_body("hé").encode().as_bytes()[..],
        [1, 3, 0, 0, 0, b'h', 0xc3, 0xa9]
    );
    let full = Body {
        content: Content::Ciphertext(&[7]),
        media_url: Some("u"),
        kind: Some(""),
    };
    assert_eq!(full.encode().as_bytes()[..], [0x32, 1, 0, 0, 0, 7, 1, 0, b'u', 0]);
}

#[test]
fn every_bound_is_kept_and_the_next_size_is_refused_by_name() {
    let content = |count| "é".repeat(count);
    let url = |count| "u".repeat(count);
    assert_eq!(text_body(&content(10_000)).check(), Ok(()));
    assert_eq!(text_body(&"😀".repeat(10_000)).check(), Ok(()));
    assert_eq!(
        text_body("").check().unwrap_err().to_string(),
        "content: must not be empty"
    );
    assert_eq!(
        text_body(&content(10_001)).check().unwrap_err().to_string(),
        "content: at most 10000 characters"
    );
    assert_eq!(
        text_body(&url(10_001)).check().unwrap_err().to_string(),
        "content: at most 10000 characters"
    );
    assert_eq!(
        text_body(&url(40_001)).check().unwrap_err().to_string(),
        "content: at most 10000 characters"
    );

    let cipher = |bytes| {
        Body {
            content: Content::Ciphertext(bytes),
            media_url: None,
            kind: None,
        }
        .check()
    };
    assert_eq!(cipher(&[0; CIPHERTEXT_BYTES_MAX]), Ok(()));
    assert_eq!(cipher(&[]), Err(BodyError::Empty("ciphertext")));
    assert_eq!(
        cipher(&[0; CIPHERTEXT_BYTES_MAX + 1]).unwrap_err().to_string(),
        "ciphertext: at most 65536 bytes"
    );

    let with_url = |url: &str| {
        Body {
            media_url: Some(url),
            ..text_body("x")
        }
        .check()
    };
    assert_eq!(with_url(&url(2_048)), Ok(()));
    assert_eq!(
        with_url(&url(2_049)).unwrap_err().to_string(),
        "media_url: at most 2048 bytes"
    );
    let with_kind = |kind: &str| {
        Body {
            kind: Some(kind),
            ..text_body("x")
        }
        .check()
    };
    assert_eq!(with_kind(&url(64)), Ok(()));
    assert_eq!(
        with_kind(&url(65)).unwrap_err().to_string(),
        "kind: at most 64 bytes"
    );
}

#[test]
fn the_largest_body_fits_its_bound() {
    let (url, kind) = ("u".repeat(MEDIA_URL_BYTES_MAX), "k".repeat(KIND_BYTES_MAX));
    let content = Content::Ciphertext(&[9; CIPHERTEXT_BYTES_MAX]);
    let encoded = Body {
        content,
        media_url: Some(&url),
        kind: Some(&kind),
    }
    .encode();
    assert!(encoded.len() <= BODY_BYTES_MAX);
    assert_eq!(EncodedBody::parse(encoded.as_bytes().clone()), Ok(encoded));
}

#[test]
fn bytes_that_no_encoder_makes_are_refused_by_field() {
    let refused = |bytes: &[u8]| {
        EncodedBody::parse(Bytes::copy_from_slice(bytes))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refused(&[]), "body form: cut short");
    assert_eq!(refused(&[3, 1, 0, 0, 0, b'x']), "body form: unknown kind 3");
    assert_eq!(refused(&[0x41, 1, 0, 0, 0, b'x']), "body form: unknown kind 65");
    assert_eq!(refused(&[1, 0, 0, 0, 0]), "content: out of bounds");
    assert_eq!(refused(&[1, 255, 255, 255, 255, b'x']), "content: cut short");
    assert_eq!(refused(&[1, 1, 0, 0, 0, 0xff]), "content: not UTF-8");
    assert_eq!(refused(&[1, 1, 0, 0, 0, b'x', b'y']), "body: bytes left over");
    assert_eq!(refused(&[0x21, 1, 0, 0, 0, b'x', 1, 0xff]), "kind: not UTF-8");
    assert_eq!(
        refused(&[0x11, 1, 0, 0, 0, b'x', 2, 0, b'u']),
        "media_url: cut short"
    );
    assert_eq!(refused(&vec![1; BODY_BYTES_MAX + 1]), "body: out of bounds");
}

#[test]
#[should_panic(expected = "a body is checked before it is encoded")]
fn an_unchecked_body_is_the_callers_mistake() {
    text_body("").encode();
}

#[test]
fn debug_shows_the_length_and_no_content() {
    assert_eq!(
        format!("{:?}", text_body("secret").encode()),
        "EncodedBody(11 bytes)"
    );
}

#[test]
fn a_parsed_body_shares_its_bytes_and_a_detached_one_does_not() {
    let batch = Bytes::from([&[0; 100], &text_body("shared").encode().as_bytes()[..]].concat());
    let parsed = EncodedBody::parse(batch.slice(100..)).unwrap();
    assert_eq!(parsed.as_bytes().as_ptr(), batch[100..].as_ptr());
    assert_ne!(parsed.detached().as_bytes().as_ptr(), batch[100..].as_ptr());
    assert_eq!(parsed.detached(), parsed);
}

#[test]
fn the_hash_tells_every_field_apart() {
    let bodies = [
        text_body("ab"),
        text_body("a"),
        Body {
            content: Content::Ciphertext(b"ab"),
            ..text_body("")
        },
        Body {
            media_url: Some(""),
            ..text_body("ab")
        },
        Body {
            kind: Some(""),
            ..text_body("ab")
        },
        Body {
            kind: Some("k"),
            ..text_body("ab")
        },
        Body {
            media_url: Some("k"),
            ..text_body("ab")
        },
    ];
    for (index, one) in bodies.iter().enumerate() {
        assert_eq!(one.encode().hash(), one.encode().hash());
        for other in &bodies[index + 1..] {
            assert_ne!(one.encode().hash(), other.encode().hash(), "{one:?} {other:?}");
        }
    }
}

proptest! {
    #[test]
    fn encoding_round_trips(body in owned_body()) {
        let encoded = body.view().encode();
        prop_assert_eq!(encoded.decode(), body.view());
        prop_assert_eq!(EncodedBody::parse(encoded.as_bytes().clone()), Ok(encoded));
    }

    #[test]
    fn every_truncation_is_refused(body in owned_body()) {
        let bytes = body.view().encode().as_bytes().clone();
        for length in 0..bytes.len() {
            prop_assert!(EncodedBody::parse(bytes.slice(..length)).is_err(), "{}", length);
        }
    }

    #[test]
    fn changed_bytes_are_refused_or_are_the_one_encoding_of_what_they_say(
        body in owned_body(),
        place in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let mut bytes = body.view().encode().as_bytes().to_vec();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok(parsed) = EncodedBody::parse(bytes.clone().into()) {
            let encoded = parsed.decode().encode();
            prop_assert_eq!(&encoded.as_bytes()[..], bytes);
        }
    }
}
