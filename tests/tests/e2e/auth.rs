//! Tokens: every place they may stand, every way they may be wrong.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tidegate_tests::client::ConnectOptions;
use tidegate_tests::{Client, Engine, Server, ServerOptions, host, http, server};
use tokio_tungstenite::tungstenite::Error;

use crate::message_id;

const SECRET: &str = "an HS256 secret of more than thirty-two bytes";

/// Starts a server that wants HS256 tokens, and the directory its secret is in.
fn guarded(engine: Engine, extra: &[(&str, &str)]) -> Result<(Server, tempfile::TempDir)> {
    let directory = tempfile::tempdir()?;
    let secret = directory.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n"))?;
    let mut options =
        ServerOptions::new(engine).flag("--jwt-hs256-secret-file", &secret.display().to_string());
    options.insecure_dev = false;
    for (name, value) in extra {
        options = options.flag(name, value);
    }
    Ok((options.start()?, directory))
}

/// Makes a token with the binary's own command.
fn token(directory: &Path, flags: &[&str]) -> Result<String> {
    let secret = directory.join("secret");
    if !secret.exists() {
        std::fs::write(&secret, SECRET)?;
    }
    let output = Command::new(server::binary())
        .arg("token")
        .args(flags)
        .arg("--jwt-hs256-secret-file")
        .arg(&secret)
        .output()?;
    if !output.status.success() {
        bail!("token: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn bearer(path: &str, token: &str) -> ConnectOptions {
    ConnectOptions {
        path: path.to_owned(),
        headers: vec![("authorization".to_owned(), format!("Bearer {token}"))],
        ..Default::default()
    }
}

fn refused(result: Result<Client, Error>) -> Result<u16> {
    match result {
        Err(Error::Http(response)) => Ok(response.status().as_u16()),
        Ok(_) => bail!("was let in"),
        Err(other) => bail!("{other}"),
    }
}

#[tokio::test]
async fn a_token_is_taken_from_the_header_the_subprotocol_or_hello() -> Result<()> {
    for &engine in host::engines() {
        let (server, directory) = guarded(engine, &[])?;
        let good = token(directory.path(), &["--user", "5"])?;
        let mut client = Client::connect_with(server.listen, &bearer("/ws/5", &good)).await?;
        client.send(&json!({"type": "hello"})).await?;
        assert_eq!(client.expect("welcome").await?["user_id"], 5);
        let offers = vec!["tidegate.json.v1".to_owned(), format!("tidegate.token.{good}")];
        let options = ConnectOptions {
            protocols: offers,
            ..Default::default()
        };
        let mut client = Client::connect_with(server.listen, &options).await?;
        client.send(&json!({"type": "hello", "device_id": 2})).await?;
        assert_eq!(client.expect("welcome").await?["user_id"], 5);
        let mut client = Client::connect(server.listen).await?;
        client
            .send(&json!({"type": "hello", "token": good, "device_id": 3}))
            .await?;
        assert_eq!(client.expect("welcome").await?["user_id"], 5);
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_token_in_the_header_is_401_and_anothers_path_403() -> Result<()> {
    let (server, directory) = guarded(host::engine(), &[])?;
    let good = token(directory.path(), &["--user", "5"])?;
    assert_eq!(
        refused(Client::connect_with(server.listen, &bearer("/ws", "nonsense")).await)?,
        401
    );
    assert_eq!(
        refused(Client::connect_with(server.listen, &bearer("/ws/6", &good)).await)?,
        403
    );
    let tampered = format!("{}x", &good[..good.len() - 1]);
    assert_eq!(
        refused(Client::connect_with(server.listen, &bearer("/ws", &tampered)).await)?,
        401
    );
    let unsigned = format!(
        "eyJhbGciOiJub25lIn0.{}.",
        good.split('.').nth(1).context("claims")?
    );
    assert_eq!(
        refused(Client::connect_with(server.listen, &bearer("/ws", &unsigned)).await)?,
        401
    );
    Ok(())
}

#[tokio::test]
async fn a_bad_token_after_101_closes_with_4401_or_4403() -> Result<()> {
    for &engine in host::engines() {
        let (server, directory) = guarded(engine, &[])?;
        let good = token(directory.path(), &["--user", "5"])?;
        let bound = token(directory.path(), &["--user", "5", "--device", "7"])?;
        let in_protocol = |path: &str, token: &str| ConnectOptions {
            path: path.to_owned(),
            protocols: vec!["tidegate.json.v1".to_owned(), format!("tidegate.token.{token}")],
            ..Default::default()
        };
        let mut client = Client::connect_with(server.listen, &in_protocol("/ws", "nonsense")).await?;
        assert_eq!(client.close_code().await?, Some(4401));
        let mut client = Client::connect_with(server.listen, &in_protocol("/ws/6", &good)).await?;
        assert_eq!(client.close_code().await?, Some(4403));
        let hello_cases = [
            (json!({"type": "hello"}), 4401),
            (json!({"type": "hello", "user_id": 5}), 4401),
            (json!({"type": "hello", "token": "nonsense"}), 4401),
            (json!({"type": "hello", "token": bound, "device_id": 8}), 4403),
        ];
        for (hello, code) in hello_cases {
            let mut client = Client::connect(server.listen).await?;
            client.send(&hello).await?;
            assert_eq!(client.close_code().await?, Some(code), "{hello}");
        }
        let mut client = Client::connect(server.listen).await?;
        client.send(&json!({"type": "hello", "token": bound})).await?;
        assert_eq!(client.expect("welcome").await?["device_id"], 7);
    }
    Ok(())
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_refresh_prolongs_it() -> Result<()> {
    for &engine in host::engines() {
        let (server, directory) = guarded(engine, &[])?;
        // Five seconds of leeway follow the expiry.
        let brief = token(directory.path(), &["--user", "5", "--seconds", "1"])?;
        let hello = |device: u32| json!({"type": "hello", "token": brief, "device_id": device});
        let mut ends = Client::connect(server.listen).await?;
        ends.send(&hello(1)).await?;
        ends.until("synced").await?;
        let mut stays = Client::connect(server.listen).await?;
        stays.send(&hello(2)).await?;
        stays.until("synced").await?;
        let longer = token(directory.path(), &["--user", "5"])?;
        stays
            .send(&json!({"type": "refresh", "token": longer, "id": 3}))
            .await?;
        let welcome = stays.expect("welcome").await?;
        assert_eq!((&welcome["id"], &welcome["user_id"]), (&json!(3), &json!(5)));
        let foreign = token(directory.path(), &["--user", "6"])?;
        stays
            .send(&json!({"type": "refresh", "token": foreign, "id": 4}))
            .await?;
        let answer = stays.expect("error").await?;
        assert_eq!((&answer["id"], &answer["code"]), (&json!(4), &json!("forbidden")));
        assert_eq!(ends.close_code().await?, Some(4402));
        stays.quiet(Duration::from_millis(300)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn issuer_and_audience_are_checked_where_configured() -> Result<()> {
    let (server, directory) = guarded(Engine::Poll, &[("--jwt-issuer", "me"), ("--jwt-audience", "you")])?;
    let flags = ["--user", "5", "--jwt-issuer", "me", "--jwt-audience", "you"];
    Client::connect_with(server.listen, &bearer("/ws", &token(directory.path(), &flags)?)).await?;
    for flags in [
        &flags[..2],
        &flags[..4],
        &["--user", "5", "--jwt-issuer", "you", "--jwt-audience", "me"],
    ] {
        let bad = token(directory.path(), flags)?;
        assert_eq!(
            refused(Client::connect_with(server.listen, &bearer("/ws", &bad)).await)?,
            401,
            "{flags:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_api_wants_a_token_of_the_same_user_or_of_a_service() -> Result<()> {
    let (server, directory) = guarded(host::engine(), &[])?;
    let own = token(directory.path(), &["--user", "5"])?;
    let service = token(directory.path(), &["--user", "1", "--service"])?;
    let body = json!({"sender_id": 5, "receiver_id": 6, "content": "x", "message_id": message_id()});
    assert_eq!(http::post(server.api, "/messages/send", None, &body)?.status, 401);
    assert_eq!(
        http::post(server.api, "/messages/send", Some("nonsense"), &body)?.status,
        401
    );
    assert_eq!(
        http::post(server.api, "/messages/send", Some(&own), &body)?.status,
        200
    );
    assert_eq!(
        http::post(server.api, "/messages/send", Some(&service), &body)?.status,
        200
    );
    let foreign = token(directory.path(), &["--user", "6"])?;
    let answer = http::post(server.api, "/messages/send", Some(&foreign), &body)?;
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (403, "application/problem+json")
    );
    assert_eq!(http::get(server.api, "/conversations", Some(&own))?.status, 200);
    assert_eq!(
        http::get(server.api, "/conversations?user_id=6", Some(&own))?.status,
        403
    );
    assert_eq!(
        http::get(server.api, "/conversations?user_id=6", Some(&service))?.status,
        200
    );
    Ok(())
}

#[tokio::test]
async fn each_public_key_algorithm_is_accepted_and_no_other() -> Result<()> {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/auth/tests/keys");
    let pem = |name: &str| std::fs::read(keys.join(name));
    let signers = [
        (
            "RS256",
            Algorithm::RS256,
            "rfc7515_a2_rsa",
            EncodingKey::from_rsa_pem(&pem("rfc7515_a2_rsa.private.pem")?)?,
        ),
        (
            "ES256",
            Algorithm::ES256,
            "rfc7515_a3_ec",
            EncodingKey::from_ec_pem(&pem("rfc7515_a3_ec.private.pem")?)?,
        ),
        (
            "EdDSA",
            Algorithm::EdDSA,
            "rfc8037_a1_ed25519",
            EncodingKey::from_ed_pem(&pem("rfc8037_a1_ed25519.private.pem")?)?,
        ),
    ];
    let expires = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs()
        + 60;
    let mut tokens = Vec::new();
    for (_, algorithm, _, key) in &signers {
        // A number as subject is taken too.
        tokens.push(encode(
            &Header::new(*algorithm),
            &json!({"sub": 5, "exp": expires}),
            key,
        )?);
    }
    let engines = host::engines().iter().cycle();
    for ((at, (name, _, file, _)), &engine) in signers.iter().enumerate().zip(engines) {
        let public = keys.join(format!("{file}.public.pem")).display().to_string();
        let mut options = ServerOptions::new(engine)
            .flag("--jwt-public-key", &public)
            .flag("--jwt-alg", name);
        options.insecure_dev = false;
        let server = options.start()?;
        for (other, token) in tokens.iter().enumerate() {
            let result = Client::connect_with(server.listen, &bearer("/ws/5", token)).await;
            if other == at {
                let mut client = result?;
                client.send(&json!({"type": "hello"})).await?;
                assert_eq!(client.expect("welcome").await?["user_id"], 5, "{name}");
            } else {
                assert_eq!(
                    refused(result)?,
                    401,
                    "{name} took the token of another algorithm"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn more_than_ten_bad_requests_a_minute_close_with_4413() -> Result<()> {
    for &engine in host::engines() {
        let (server, directory) = guarded(engine, &[])?;
        let good = token(directory.path(), &["--user", "5"])?;
        let mut client = Client::connect_with(server.listen, &bearer("/ws", &good)).await?;
        client.send(&json!({"type": "hello"})).await?;
        client.until("synced").await?;
        for _ in 0..10 {
            client.send(&json!({"type": "dance"})).await?;
            assert_eq!(client.expect("error").await?["code"], "bad_request");
        }
        client.send(&json!({"type": "dance"})).await?;
        assert_eq!(client.close_code().await?, Some(4413));
    }
    Ok(())
}
