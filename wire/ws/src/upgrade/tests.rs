//! The handshake: good requests however they arrive, and the status of every bad one.

use proptest::prelude::*;
use proptest::sample::Index;

use super::headers::Headers;
use super::*;

/// The sample of RFC 6455 section 1.2.
const SAMPLE: &str = "GET /chat HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

fn parse(head: &[u8]) -> Result<Option<(Request<'_>, usize)>, Refusal> {
    parse_request(head, &mut HeadScan::new(), |path| path != "/unknown")
}

fn refusal(head: impl AsRef<[u8]>) -> Refusal {
    parse(head.as_ref()).expect_err("a refusal")
}

/// The sample with one line replaced; an empty `to` leaves the line out.
fn with(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "{from}");
    let to = if to.is_empty() {
        String::new()
    } else {
        format!("{to}\r\n")
    };
    SAMPLE.replace(&format!("{from}\r\n"), &to)
}

fn with_line(line: &str) -> String {
    with(
        "Host: server.example.com",
        &format!("Host: server.example.com\r\n{line}"),
    )
}

#[test]
fn the_sample_of_the_rfc_is_read_and_answered() {
    let (request, length) = parse(SAMPLE.as_bytes()).unwrap().unwrap();
    assert_eq!(length, SAMPLE.len());
    assert_eq!((request.path, request.query), ("/chat", None));
    assert_eq!(request.host, "server.example.com");
    assert_eq!(request.origin, Some("http://example.com"));
    assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    assert_eq!(request.bearer(), None);
    let mut out = Vec::new();
    write_accept(&mut out, &request.key, Some("chat"));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
}

#[test]
fn header_names_and_tokens_have_no_case_and_lists_span_lines() {
    let head = "GET /ws/7?x=1&y HTTP/1.1\r\nhOST:h\r\nupgrade: h2c, WebSocket\r\nCONNECTION: keep-alive\r\n\
        connection: foo , uPgRaDe\t\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
        sec-websocket-protocol: a,, b ,\r\nContent-Length: 0\r\nx-unknown: \r\nSec-Websocket-Protocol:c\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    let (request, _) = parse(head.as_bytes()).unwrap().unwrap();
    assert_eq!((request.path, request.query), ("/ws/7", Some("x=1&y")));
    assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(request.origin, None);
}

#[test]
fn the_bearer_token_is_found_whatever_the_case_of_its_scheme() {
    let bearer = |line: &str| {
        let head = with_line(line);
        parse(head.as_bytes())
            .unwrap()
            .unwrap()
            .0
            .bearer()
            .map(str::to_owned)
    };
    assert_eq!(
        bearer("Authorization: Bearer a.b-c_d").as_deref(),
        Some("a.b-c_d")
    );
    assert_eq!(bearer("authorization: bEARER   x").as_deref(), Some("x"));
    assert_eq!(bearer("Authorization: Basic eDp5"), None);
    assert_eq!(bearer("Authorization: Bearer").as_deref(), Some(""));
    assert_eq!(bearer("Authorization: Bearer  ").as_deref(), Some(""));
    assert_eq!(bearer("Authorization: "), None);
}

#[test]
fn debug_output_names_no_token() {
    let head = with_line(
        "Authorization: Bearer secret-token\r\nSec-WebSocket-Protocol: tidegate.token.secret-token",
    );
    let head = head.replace("/chat", "/chat?t=secret-token");
    let (request, _) = parse(head.as_bytes()).unwrap().unwrap();
    assert!(!format!("{request:?}").contains("secret-token"));
}

#[test]
fn an_absolute_target_is_reduced_to_its_path() {
    let path = |target: &str| {
        let head = SAMPLE.replace("/chat", target);
        parse(head.as_bytes()).map(|found| found.unwrap().0.path.to_owned())
    };
    assert_eq!(path("http://server.example.com/ws"), Ok("/ws".to_owned()));
    assert_eq!(
        path("WSS://server.example.com:443/ws/1?q"),
        Ok("/ws/1".to_owned())
    );
    assert_eq!(path("http://server.example.com"), Err(Refusal::Target));
    assert_eq!(path("ftp://server.example.com/ws"), Err(Refusal::Target));
    assert_eq!(path("server.example.com:80"), Err(Refusal::Target));
    assert_eq!(path("*"), Err(Refusal::Target));
    // The authority is over: what follows is a query or a fragment, and no path.
    assert_eq!(path("http://evil?/ws"), Err(Refusal::Target));
    assert_eq!(path("http://evil#/ws"), Err(Refusal::Target));
    assert_eq!(path("http:///ws"), Err(Refusal::Target));
    assert_eq!(path("http://server.example.com/ws?/x"), Ok("/ws".to_owned()));
}

#[test]
#[rustfmt::skip]
fn every_bad_request_gets_its_status() {
    let version = "Sec-WebSocket-Version: 13";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let table: &[(String, Refusal, u16)] = &[
        (SAMPLE.replace("GET", "POST"), Refusal::Method, 405),
        (SAMPLE.replace("GET", "HEAD"), Refusal::Method, 405),
        (SAMPLE.replace("GET", "get"), Refusal::Method, 405),
        (SAMPLE.replace("HTTP/1.1", "HTTP/1.0"), Refusal::HttpVersion, 400),
        (SAMPLE.replace("HTTP/1.1", "HTTP/2.0"), Refusal::HttpVersion, 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), Refusal::HttpVersion, 400),
        (SAMPLE.replace("/chat", "/unknown"), Refusal::NotFound, 404),
        ("GET /unknown HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), Refusal::NotFound, 404),
        (SAMPLE.replace("/chat", "chat"), Refusal::Target, 400),
        (SAMPLE.replace("/chat", ""), Refusal::Malformed, 400),
        ("GET /chat HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), Refusal::UpgradeRequired, 426),
        (with("Upgrade: websocket", ""), Refusal::UpgradeRequired, 426),
        (with("Upgrade: websocket", "Upgrade: h2c"), Refusal::UpgradeRequired, 426),
        (with("Upgrade: websocket", "Upgrade: websockets"), Refusal::UpgradeRequired, 426),
        (with("Connection: Upgrade", ""), Refusal::ConnectionHeader, 400),
        (with("Connection: Upgrade", "Connection: keep-alive"), Refusal::ConnectionHeader, 400),
        (with(version, ""), Refusal::WebSocketVersion, 426),
        (with(version, "Sec-WebSocket-Version: 8"), Refusal::WebSocketVersion, 426),
        (with(version, "Sec-WebSocket-Version: 13, 8"), Refusal::WebSocketVersion, 426),
        (with(version, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13"), Refusal::DuplicateHeader, 400),
        (with(key, ""), Refusal::Key, 400),
        (with(key, "Sec-WebSocket-Key:"), Refusal::Key, 400),
        (with(key, "Sec-WebSocket-Key: short"), Refusal::Key, 400),
        (with(key, "Sec-WebSocket-Key: ékey"), Refusal::NotAscii, 400),
        (with(key, &format!("{key}\r\n{key}")), Refusal::DuplicateHeader, 400),
        (with("Host: server.example.com", ""), Refusal::Host, 400),
        (with("Host: server.example.com", "Host: "), Refusal::Host, 400),
        (with_line("host: other.example.com"), Refusal::DuplicateHeader, 400),
        (with_line("Host: server.example.com"), Refusal::DuplicateHeader, 400),
        (with_line("Origin: http://other.example.com"), Refusal::DuplicateHeader, 400),
        (with_line("Authorization: Bearer a\r\nAuthorization: Bearer b"), Refusal::DuplicateHeader, 400),
        (with("Origin: http://example.com", "Origin: http://exämple.com"), Refusal::NotAscii, 400),
        (with_line("Authorization: Bearer ü"), Refusal::NotAscii, 400),
        (with_line("Content-Length: 1"), Refusal::Body, 400),
        (with_line("Content-Length: 0\r\nContent-Length: 5"), Refusal::Body, 400),
        (with_line("Content-Length: zero"), Refusal::Body, 400),
        (with_line("Content-Length:"), Refusal::Body, 400),
        (with_line("Transfer-Encoding: chunked"), Refusal::Body, 400),
        (with_line("Content-Length: 0\r\nTransfer-Encoding: identity"), Refusal::Body, 400),
        (with_line("Sec-WebSocket-Protocol: not a token"), Refusal::Subprotocol, 400),
        (with_line("Sec-WebSocket-Protocol: ök"), Refusal::Subprotocol, 400),
        (with_line("folded: a\r\n b"), Refusal::Malformed, 400),
        (with_line("no colon"), Refusal::Malformed, 400),
        (with_line("space : x"), Refusal::Malformed, 400),
        (with_line(": nameless"), Refusal::Malformed, 400),
        (with_line("carriage: a\rb"), Refusal::Malformed, 400),
        (with_line("control: \u{1}"), Refusal::Malformed, 400),
        (with_line("nul: \0"), Refusal::Malformed, 400),
        (SAMPLE.replace("\r\n", "\n"), Refusal::BareLineFeed, 400),
        (with_line("bare: a\nfeed: b"), Refusal::BareLineFeed, 400),
        ("\n".to_owned(), Refusal::BareLineFeed, 400),
        ("\r\n\r\n".to_owned(), Refusal::Malformed, 400),
        ("garbage\r\n\r\n".to_owned(), Refusal::Malformed, 400),
        (with_line(&["x: y"; HEADERS_MAX].join("\r\n")), Refusal::TooManyHeaders, 431),
        (with_line(&format!("long: {}", "y".repeat(HEAD_BYTES_MAX))), Refusal::HeadTooLong, 431),
    ];
    for (head, expected, status) in table {
        assert_eq!(refusal(head), *expected, "{head:?}");
        assert_eq!(expected.status(), *status, "{head:?}");
    }
}

#[test]
fn a_tls_client_hello_is_refused_at_its_first_byte() {
    assert_eq!(refusal(b"\x16\x03\x01"), Refusal::Malformed);
}

#[test]
fn headers_that_are_not_ascii_and_not_ours_are_ignored() {
    let mut head = with_line("X-Name: é").into_bytes();
    let at = head.iter().position(|&byte| byte == 0xc3).unwrap();
    head[at] = 0xff; // Not even UTF-8.
    assert!(parse(&head).unwrap().is_some());
}

#[test]
fn heads_at_their_bounds_pass() {
    let lines = SAMPLE.lines().count() - 2; // Neither the first nor the empty line is a header.
    let most = with_line(&vec!["x: y"; HEADERS_MAX - lines].join("\r\n"));
    assert!(parse(most.as_bytes()).unwrap().is_some());
    let longest = with_line(&format!(
        "long: {}",
        "y".repeat(HEAD_BYTES_MAX - SAMPLE.len() - "long: \r\n".len())
    ));
    assert_eq!(longest.len(), HEAD_BYTES_MAX);
    assert!(parse(longest.as_bytes()).unwrap().is_some());
}

/// Receives a head in pieces the way a server does; returns what of the last piece was not head.
fn receive<'s>(
    pieces: impl IntoIterator<Item = &'s [u8]>,
) -> Result<Option<(HeadBuffer, &'s [u8])>, Refusal> {
    let mut buffer = HeadBuffer::default();
    for piece in pieces {
        if let Some(taken) = buffer.push(piece)? {
            return Ok(Some((buffer, &piece[taken..])));
        }
    }
    Ok(None)
}

#[test]
fn a_head_in_two_pieces_is_whole_and_the_frames_behind_it_are_not_lost() {
    let frames = b"\x81\x80abcd\r\n\r\n";
    let stream = [SAMPLE.as_bytes(), frames].concat();
    let (request, length) = parse(&stream).unwrap().unwrap();
    assert_eq!((request.path, &stream[length..]), ("/chat", &frames[..]));
    for cut in 0..SAMPLE.len() {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(parse(head).unwrap().map(|(_, length)| length), None);
        let (buffer, rest) = receive([head, tail]).unwrap().unwrap();
        assert_eq!(
            (buffer.as_bytes(), rest),
            (SAMPLE.as_bytes(), &frames[..]),
            "cut at {cut}"
        );
        assert!(parse(buffer.as_bytes()).unwrap().is_some());
    }
    let (buffer, _) = receive(stream.chunks(1)).unwrap().unwrap();
    assert_eq!(buffer.as_bytes(), SAMPLE.as_bytes());
}

#[test]
fn a_megabyte_of_dripped_headers_is_refused_at_the_bound() {
    let mut buffer = HeadBuffer::default();
    for _ in 1..HEAD_BYTES_MAX {
        assert_eq!(buffer.push(b"x"), Ok(None));
        assert!(buffer.held_bytes() <= HEAD_BYTES_MAX);
    }
    assert_eq!(buffer.push(b"x"), Err(HeadError::TooLong));
}

#[test]
fn the_line_over_the_bound_is_refused_before_the_head_is_complete() {
    let stream = format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(2_000));
    let mut buffer = HeadBuffer::default();
    let lines = stream
        .split_inclusive('\n')
        .position(|line| buffer.push(line.as_bytes()).is_err());
    assert_eq!(lines, Some(HEADERS_MAX + 1)); // The first line, as many headers as are allowed, and one.
}

#[test]
fn a_scan_never_looks_at_a_byte_twice() {
    let mut scan = HeadScan::new();
    let mut received = Vec::new();
    for byte in SAMPLE.bytes() {
        received.push(byte);
        let end = scan.find_end(&received).unwrap();
        assert_eq!(end.is_some(), received.len() == SAMPLE.len());
        // What lies behind the last four bytes would be refused if it were looked at again.
        if let Some(old) = received.len().checked_sub(4) {
            received[old] = 0;
        }
    }
}

#[test]
fn refusals_are_whole_responses() {
    let text = |refusal: Refusal| {
        let mut out = Vec::new();
        refusal.encode(&mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        text(Refusal::Method),
        "HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\nAllow: GET\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 28\r\n\r\na WebSocket starts with GET\n"
    );
    let upgrade = text(Refusal::WebSocketVersion);
    assert!(upgrade.starts_with("HTTP/1.1 426 Upgrade Required\r\nConnection: close, Upgrade\r\n"));
    assert!(upgrade.contains("\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"));
    assert!(text(Refusal::Unauthorized).contains("\r\nWWW-Authenticate: Bearer\r\n"));
    assert!(text(Refusal::Unavailable { retry_after_s: 3 }).contains("\r\nRetry-After: 3\r\n"));
    for refusal in [
        Refusal::Malformed,
        Refusal::HeadTooLong,
        Refusal::Unauthorized,
        Refusal::Forbidden,
        Refusal::NotFound,
        Refusal::Method,
        Refusal::UpgradeRequired,
        Refusal::Unavailable { retry_after_s: 1 },
    ] {
        let response = text(refusal);
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut parsed = httparse::Response::new(&mut headers);
        let head_bytes = parsed.parse(response.as_bytes()).unwrap().unwrap();
        assert_eq!(parsed.code, Some(refusal.status()));
        let length = parsed
            .headers
            .iter()
            .find(|header| header.name == "Content-Length")
            .unwrap()
            .value;
        assert_eq!(length, (response.len() - head_bytes).to_string().as_bytes());
        assert_eq!(response[head_bytes..].trim_end(), refusal.reason());
    }
}

const OFFER: &[&str] = &["tidegate.json.v1", "tidegate.token.x"];

#[test]
fn client_and_server_agree() {
    let key = Key::from_nonce([7; 16]);
    let mut request = Vec::new();
    let offer = Offer {
        host: "localhost:9000",
        path: "/ws/5?a",
        key,
        subprotocols: OFFER,
        bearer: Some("t.o.k"),
    };
    write_request(&mut request, &offer);
    let (heard, length) = parse(&request).unwrap().unwrap();
    assert_eq!(length, request.len());
    assert_eq!(
        (heard.path, heard.query, heard.host),
        ("/ws/5", Some("a"), "localhost:9000")
    );
    assert_eq!((heard.key, heard.bearer()), (key, Some("t.o.k")));
    assert_eq!(heard.subprotocols().collect::<Vec<_>>(), OFFER);

    for chosen in [None, Some(OFFER[0])] {
        let mut response = Vec::new();
        write_accept(&mut response, &heard.key, chosen);
        response.extend_from_slice(b"\x81\x00");
        let (accepted, length) = parse_response(&response, &mut HeadScan::new(), &key, OFFER)
            .unwrap()
            .unwrap();
        assert_eq!(
            (accepted.subprotocol, &response[length..]),
            (chosen, &b"\x81\x00"[..])
        );
    }
}

#[test]
fn a_client_accepts_nothing_but_the_upgrade_it_asked_for() {
    let key = Key::parse(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
    let parse = |head: &str| {
        parse_response(head.as_bytes(), &mut HeadScan::new(), &key, OFFER).map(|found| found.is_some())
    };
    let good = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let with_line = |line: &str| good.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
    assert_eq!(parse(good), Ok(true));
    assert_eq!(parse(&good[..good.len() - 1]), Ok(false));
    assert_eq!(
        parse(&good.replace("101", "200")),
        Err(ResponseError::Status(200))
    );
    assert_eq!(
        parse("HTTP/1.1 503 Busy\r\n\r\n"),
        Err(ResponseError::Status(503))
    );
    assert_eq!(
        parse(&good.replace("HTTP/1.1", "HTTP/1.0")),
        Err(ResponseError::Malformed)
    );
    assert_eq!(
        parse("220 smtp.example.com\r\n\r\n"),
        Err(ResponseError::Malformed)
    );
    assert_eq!(
        parse(&good.replace("WebSocket\r\n", "h2c\r\n")),
        Err(ResponseError::NotUpgraded)
    );
    assert_eq!(
        parse(&good.replace("Connection", "X-Connection")),
        Err(ResponseError::NotUpgraded)
    );
    assert_eq!(
        parse(&good.replace("s3p", "S3p")),
        Err(ResponseError::WrongAccept)
    );
    assert_eq!(
        parse(&good.replace("Sec-WebSocket-Accept", "X")),
        Err(ResponseError::WrongAccept)
    );
    assert_eq!(
        parse(&with_line("Sec-WebSocket-Protocol: other")),
        Err(ResponseError::SubprotocolNotOffered)
    );
    assert_eq!(
        parse(&with_line("Sec-WebSocket-Extensions: x")),
        Err(ResponseError::ExtensionNotOffered)
    );
    let long = "x".repeat(HEAD_BYTES_MAX);
    assert_eq!(parse(&long), Err(ResponseError::Head(HeadError::TooLong)));
}

/// Heads made of plausible lines in any order.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        prop::sample::select(SAMPLE.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>())
            .prop_map(str::to_owned),
        "[A-Za-z-]{1,8}:[ \t]{0,2}[!-~ é]{0,12}[ \t]{0,2}",
    ];
    prop::collection::vec(line, 0..10).prop_map(|lines| {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!("GET /chat HTTP/1.1\r\n{lines}\r\n").into_bytes()
    })
}

proptest! {
    /// A path begins where the authority ends, and nowhere else, however the rest is written.
    #[test]
    fn a_slash_behind_the_authority_is_no_path(
        authority in "[a-z0-9.:@-]{1,20}",
        separator in "[?#]",
        rest in "[a-z0-9/?#.:-]{0,20}",
    ) {
        let target = format!("http://{authority}{separator}{rest}");
        let head = SAMPLE.replace("/chat", &target);
        let refused = parse(head.as_bytes()).map(|_| ());
        prop_assert!(matches!(refused, Err(Refusal::Target | Refusal::Malformed)), "{target}: {refused:?}");
        let head = SAMPLE.replace("/chat", &format!("http://{authority}/{rest}"));
        if let Ok(Some((request, _))) = parse(head.as_bytes()) {
            let whole = format!("/{rest}");
            prop_assert_eq!(Some(request.path), whole.split('?').next());
        }
    }

    #[test]
    fn headers_are_read_as_httparse_reads_them(head in heads()) {
        let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut slots);
        if request.parse(&head).is_ok_and(|status| status.is_complete()) {
            let theirs = request.headers.iter().map(|header| (header.name.as_bytes(), header.value));
            prop_assert_eq!(Headers::of_head(&head).iter().collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
        }
    }

    #[test]
    fn damaged_heads_get_one_verdict_however_they_are_cut(
        mut head in prop_oneof![heads(), Just(SAMPLE.as_bytes().to_vec())],
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        piece in 1..50_usize,
    ) {
        for (at, byte) in damage {
            let at = at.index(head.len());
            head[at] = byte;
        }
        let verdict = |found: Result<Option<(Request<'_>, usize)>, Refusal>| found.map(|found| found.map(|(request, length)| {
            request.bearer();
            (length, request.subprotocols().count())
        }));
        let whole = verdict(parse(&head));
        let dripped = match receive(head.chunks(piece)) {
            Err(refusal) => Err(refusal),
            Ok(None) => Ok(None),
            Ok(Some((buffer, _))) => verdict(parse(buffer.as_bytes())),
        };
        prop_assert_eq!(dripped, whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let head = [&bytes[..], b"\r\n\r\n"].concat();
        let _ = parse(&bytes);
        let _ = parse(&head);
        let _ = parse_response(&head, &mut HeadScan::new(), &Key::from_nonce([0; 16]), &[]);
    }
}
