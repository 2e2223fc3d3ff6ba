//! What operators rely on: the ready line, health, metrics, drain, refusals to start, commands.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::Result;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use tidegate_tests::client::Arrival;
use tidegate_tests::{Client, Engine, ServerOptions, host, http, server};

use crate::{message_id, on_both, with_options};

fn tidegate(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(server::binary()).args(arguments).output()?)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn the_ready_line_says_where_and_on_what_it_runs() -> Result<()> {
    for &engine in host::engines() {
        let mut options = ServerOptions::new(engine);
        options.workers = 2;
        let server = options.start()?;
        let names = ["listen", "api", "admin", "engine", "workers"];
        let words: Vec<&str> = server
            .ready
            .split(' ')
            .skip(1)
            .map(|word| word.split('=').next().unwrap())
            .collect();
        assert_eq!(words, names, "{}", server.ready);
        assert_eq!(server::field(&server.ready, "engine"), Some(engine.flag()));
        assert_eq!(server::field(&server.ready, "workers"), Some("2"));
    }
    Ok(())
}

#[tokio::test]
async fn health_and_metrics_stand_on_the_admin_listener_only() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        alice.message(2, &message_id(), "x").await?;
        assert_eq!(http::get(server.admin, "/healthz", None)?.status, 200);
        assert_eq!(http::get(server.admin, "/readyz", None)?.status, 200);
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(http::get(server.api, path, None)?.status, 404, "{path}");
        }
        // Counters are published now and then, not at every message.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(http::metric(server.admin, "gateway_connections", "")?, 1.0);
        assert_eq!(http::metric(server.admin, "gateway_sessions", "")?, 1.0);
        assert_eq!(http::metric(server.admin, "router_sends_total", "")?, 1.0);
        assert!(http::metric(server.admin, "router_fsyncs_total", "")? >= 1.0);
        drop(alice);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(http::metric(server.admin, "gateway_connections", "")?, 0.0);
        assert_eq!(http::metric(server.admin, "gateway_closes_total", "")?, 1.0);
        Ok(())
    })
    .await
}

/// Returns the niceness of a server's threads, by their names.
fn niceness(server: &tidegate_tests::Server) -> Result<BTreeMap<String, i32>> {
    let mut nice = BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{}/task", server.process.id()))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        let (head, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let name = head.split_once('(').expect("a name in brackets").1;
        let niceness = fields.split(' ').nth(16).expect("a niceness").parse()?;
        nice.insert(name.to_owned(), niceness);
    }
    Ok(nice)
}

#[tokio::test]
async fn threads_of_the_store_give_way_to_the_others() -> Result<()> {
    on_both(async |server| {
        // An answer has passed through all of them.
        Client::live(server.listen, 1, 1).await?;
        let nice = niceness(server)?;
        let own = nice["router"];
        for name in ["gateway-0", "log"] {
            assert_eq!(nice[name], own, "{nice:?}");
        }
        for name in ["store", "fjall:worker"] {
            assert_eq!(nice[name], (own + 10).min(19), "{nice:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sigterm_tells_clients_to_reconnect_closes_with_4503_and_exits_0() -> Result<()> {
    with_options(ServerOptions::new, async |server| {
        let mut clients = Vec::new();
        for user in 1..=20 {
            clients.push(Client::live(server.listen, user, 1).await?);
        }
        server.process.signal(server::Signal::TERM)?;
        for client in &mut clients {
            let reconnect = client.expect("reconnect").await?;
            assert!(
                reconnect["after_ms"].is_u64()
                    && reconnect["jitter_ms"].is_u64()
                    && reconnect["reason"].is_string()
            );
            assert_eq!(client.arrival().await?, Arrival::Closed(Some(4503)));
        }
        let status = server.process.wait(Duration::from_secs(20))?;
        assert_eq!(status.code(), Some(0));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_admin_client_in_the_middle_of_a_request_does_not_hold_up_the_end() -> Result<()> {
    use std::io::Write;
    with_options(ServerOptions::new, async |server| {
        let mut half = std::net::TcpStream::connect(server.admin)?;
        half.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")?;
        let mut unread = std::net::TcpStream::connect(server.admin)?;
        unread.set_write_timeout(Some(Duration::from_millis(200)))?;
        for _ in 0..400 {
            if unread
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                .is_err()
            {
                break;
            }
        }
        assert_eq!(server.terminate(Duration::from_secs(30))?.code(), Some(0));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() -> Result<()> {
    let server = ServerOptions::new(Engine::Poll).start()?;
    let data = server.data.display().to_string();
    let arguments = [
        "serve",
        "--insecure-dev",
        "--listen",
        "127.0.0.1:0",
        "--api",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let output = tidegate(&[&arguments[..], &["--data", &data]].concat())?;
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains(&data), "{}", errors(&output));
    assert_eq!(
        errors(&output).matches("in use").count(),
        1,
        "{}",
        errors(&output)
    );
    let mut client = Client::live(server.listen, 1, 1).await?;
    assert_eq!(client.message(2, &message_id(), "x").await?["type"], "sent");
    Ok(())
}

#[tokio::test]
async fn a_second_process_on_the_same_port_is_refused_although_workers_share_it() -> Result<()> {
    let server = ServerOptions::new(host::engine()).start()?;
    let directory = tempfile::tempdir()?;
    let (listen, data) = (server.listen.to_string(), directory.path().display().to_string());
    let arguments = [
        "serve",
        "--insecure-dev",
        "--listen",
        &listen,
        "--api",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let output = tidegate(&[&arguments[..], &["--data", &data]].concat())?;
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("gateway.listen"), "{}", errors(&output));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_its_name() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "\n")?;
    let empty = empty.display().to_string();
    let cases: [(&[&str], &str); 15] = [
        (&["serve"], "--insecure-dev"),
        (
            &["serve", "--insecure-dev", "--listen", "0.0.0.0:0"],
            "gateway.listen",
        ),
        (&["serve", "--insecure-dev", "--api", "0.0.0.0:0"], "api.listen"),
        (
            &["serve", "--insecure-dev", "--config", "no/such/file"],
            "no/such/file",
        ),
        (
            &["serve", "--jwt-hs256-secret-file", "no/such/secret"],
            "jwt_hs256_secret_file",
        ),
        (
            &["serve", "--jwt-hs256-secret-file", &empty],
            "jwt_hs256_secret_file",
        ),
        (&["serve", "--insecure-dev", "--workers", "many"], "--workers"),
        (&["serve", "--insecure-dev", "--workers", "-1"], "--workers"),
        (
            &["serve", "--insecure-dev", "--listen", ":9000"],
            "127.0.0.1:9000",
        ),
        (&["echo", "--message-bytes-max", "-1"], "--message-bytes-max"),
        (&["echo", "--message-bytes-max", "25s"], "64KiB"),
        (&["demo", "--seconds", "64MB"], "25s"),
        (&["demo", "--conns", "-5"], "--conns"),
        (
            &["config", "check", "--insecure-dev", "--workers", "-1"],
            "--workers",
        ),
        (&["echo", "--listen", "0.0.0.0:0"], "--allow-public"),
    ];
    for (arguments, name) in cases {
        let output = tidegate(arguments)?;
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            errors(&output)
        );
        assert!(
            errors(&output).contains(name),
            "{arguments:?}: {}",
            errors(&output)
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_printed_default_settings_are_good_settings() -> Result<()> {
    let output = tidegate(&["config", "default"])?;
    assert!(output.status.success());
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("tidegate.toml");
    std::fs::write(&path, &output.stdout)?;
    let path = path.display().to_string();
    let checked = tidegate(&["config", "check", "--insecure-dev", "--config", &path])?;
    assert!(checked.status.success(), "{}", errors(&checked));
    let checked = tidegate(&["config", "check", "--config", &path])?;
    assert_eq!(checked.status.code(), Some(2));
    Ok(())
}

#[tokio::test]
async fn what_is_in_force_can_be_printed_and_read_again_from_standard_input() -> Result<()> {
    let flags = ["--insecure-dev", "--listen", "localhost:9100", "--workers", "3"];
    let shown = tidegate(&[&["config", "show"], &flags[..]].concat())?;
    assert!(shown.status.success(), "{}", errors(&shown));
    let file = String::from_utf8(shown.stdout)?;
    let line = file.lines().find(|line| line.starts_with("workers = 3"));
    assert!(line.is_some_and(|line| line.ends_with("# --workers")), "{file}");

    let check = |file: &str| {
        let mut command = Command::new(server::binary());
        command.args(["config", "check", "--config", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut checked = command.spawn()?;
        let mut input = checked.stdin.take().expect("it is piped");
        input.write_all(file.as_bytes())?;
        drop(input);
        checked.wait_with_output()
    };
    let checked = check(&file)?;
    assert!(checked.status.success(), "{}", errors(&checked));
    let checked = check("[gateway]\nworker = 3\n")?;
    assert_eq!(checked.status.code(), Some(2));
    assert!(errors(&checked).contains("(from standard input); did you mean gateway.workers?"));
    Ok(())
}

/// What a process writes to a terminal while it starts.
fn on_a_terminal(environment: &[(&str, &str)]) -> Result<String> {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let name = ptsname(&terminal, Vec::new())?;
    let mut command = Command::new(server::binary());
    command.args([
        "echo",
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "1",
        "--engine",
        "poll",
    ]);
    command.env_remove("NO_COLOR").envs(environment.iter().copied());
    let end = std::fs::File::options().write(true).open(name.to_str()?)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(end);
    let mut echo = command.spawn()?;
    drop(command);
    let mut ready = String::new();
    BufReader::new(echo.stdout.take().expect("it is piped")).read_line(&mut ready)?;
    echo.kill()?;
    echo.wait()?;
    let mut written = Vec::new();
    // A terminal whose other end is closed ends with an error.
    let _ = std::fs::File::from(terminal).read_to_end(&mut written);
    assert!(ready.starts_with("ready ") && !written.is_empty(), "{ready}");
    Ok(String::from_utf8(written)?)
}

#[test]
fn log_lines_have_colors_on_a_terminal_and_not_for_those_who_decline() -> Result<()> {
    assert!(on_a_terminal(&[])?.contains('\x1b'));
    let plain = on_a_terminal(&[("NO_COLOR", "1")])?;
    assert!(plain.contains("INFO") && !plain.contains('\x1b'), "{plain}");
    Ok(())
}

#[test]
fn completions_and_manual_pages_name_every_command() -> Result<()> {
    let commands = [
        "serve",
        "demo",
        "echo",
        "token",
        "config",
        "store",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let output = tidegate(&["completions", shell])?;
        let script = String::from_utf8(output.stdout)?;
        for command in commands {
            assert!(script.contains(command), "{command} for {shell}");
        }
    }
    let directory = tempfile::tempdir()?;
    let output = tidegate(&["man", &directory.path().display().to_string()])?;
    assert!(output.status.success(), "{}", errors(&output));
    for command in commands.into_iter().chain(["config-show", "store-check"]) {
        let page = std::fs::read_to_string(directory.path().join(format!("tidegate-{command}.1")))?;
        assert!(page.contains(".TH"), "{command}");
    }
    let serve = std::fs::read_to_string(directory.path().join("tidegate-serve.1"))?;
    assert!(serve.contains("jwt"), "{serve}");
    let output = tidegate(&["man", "no/such/directory"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("no/such/directory"));
    Ok(())
}

#[tokio::test]
async fn a_stopped_store_can_be_checked_and_damage_is_explained() -> Result<()> {
    let mut server = ServerOptions::new(host::engine()).start()?;
    let mut alice = Client::live(server.listen, 1, 1).await?;
    for number in 0..20 {
        alice.message(2, &message_id(), &format!("m{number}")).await?;
    }
    let directory = server.keep_data();
    server.kill9()?;
    let data = server.data.display().to_string();
    let output = tidegate(&["store", "check", "--data", &data])?;
    assert!(output.status.success(), "{}", errors(&output));
    // One flipped bit early in the log: refused, with the place named, by check and by serve.
    let segment = largest_segment(&server.data)?;
    let mut bytes = std::fs::read(&segment)?;
    bytes[200] ^= 1;
    std::fs::write(&segment, bytes)?;
    let output = tidegate(&["store", "check", "--data", &data])?;
    assert_eq!(output.status.code(), Some(1));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), errors(&output));
    assert!(
        said.contains(segment.file_name().unwrap().to_str().unwrap()),
        "{said}"
    );
    let started = ServerOptions::new(host::engine()).data(&server.data).start();
    let error = format!("{:#}", started.err().expect("a damaged log is not served"));
    assert!(
        error.contains("store check") || error.contains("offset"),
        "{error}"
    );
    drop(directory);
    Ok(())
}

fn largest_segment(data: &std::path::Path) -> Result<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(data.join("log"))?.collect::<Result<_, _>>()?;
    files.retain(|entry| entry.metadata().is_ok_and(|meta| meta.len() > 1_000));
    files.sort_by_key(|entry| entry.metadata().map_or(0, |meta| meta.len()));
    Ok(files.last().expect("a segment").path())
}

#[tokio::test]
async fn tokens_of_the_command_have_what_was_asked() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "an HS256 secret of more than thirty-two bytes")?;
    let secret = secret.display().to_string();
    let output = tidegate(&[
        "token",
        "--user",
        "7",
        "--service",
        "--jwt-hs256-secret-file",
        &secret,
    ])?;
    assert!(output.status.success());
    let token = String::from_utf8(output.stdout)?;
    assert_eq!(token.trim().split('.').count(), 3);
    for bad in ["0", "9007199254740992", "x"] {
        let output = tidegate(&["token", "--user", bad, "--jwt-hs256-secret-file", &secret])?;
        assert_eq!(output.status.code(), Some(2), "{bad}");
    }
    Ok(())
}

#[tokio::test]
async fn per_user_limits_reject_with_a_time_to_wait() -> Result<()> {
    let options = |engine| {
        ServerOptions::new(engine)
            .setting("ROUTER__SENDS_PER_S", "5")
            .setting("ROUTER__SENDS_BURST", "10")
    };
    with_options(options, async |server| {
        let (mut client, welcome) = Client::hello(server.listen, 1, 1).await?;
        assert_eq!(welcome["limits"]["sends_per_s"], 5);
        client.until("synced").await?;
        let mut sent = 0;
        let mut limited = None;
        for _ in 0..30 {
            let answer = client.message(2, &message_id(), "x").await?;
            if answer["type"] == "sent" {
                sent += 1
            } else {
                limited = Some(answer)
            }
        }
        let limited = limited.expect("30 at once are over the limit");
        assert_eq!(limited["code"], "rate_limited");
        let wait = limited["retry_after_ms"].as_u64().unwrap();
        assert!((1..=1_000).contains(&wait), "{limited}");
        assert!((10..=25).contains(&sent), "{sent}");
        let body = json!({"sender_id": 1, "receiver_id": 2, "content": "x"});
        let answer = http::post(server.api, "/messages/send", None, &body)?;
        assert_eq!(answer.status, 429);
        assert!(answer.retry_after.is_some());
        tokio::time::sleep(Duration::from_millis(wait)).await;
        assert_eq!(client.message(2, &message_id(), "x").await?["type"], "sent");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn connections_beyond_the_bound_of_a_worker_close_with_4429() -> Result<()> {
    let options = |engine| ServerOptions::new(engine).setting("GATEWAY__CONNECTIONS_MAX", "3");
    with_options(options, async |server| {
        let mut kept = Vec::new();
        for user in 1..=3 {
            kept.push(Client::live(server.listen, user, 1).await?);
        }
        let mut fourth = Client::connect(server.listen).await?;
        assert_eq!(fourth.close_code().await?, Some(4429));
        drop((fourth, kept.pop()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        Client::live(server.listen, 4, 1).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_one_that_never_answers_is_let_go() -> Result<()> {
    let options = |engine| ServerOptions::new(engine).setting("GATEWAY__PING_INTERVAL_MS", "1000");
    with_options(options, async |server| {
        // The oracle client answers pings by itself while it is read.
        let mut answering = Client::live(server.listen, 1, 1).await?;
        let silent = crate::bad_input::raw_session(server.listen, 2)?;
        answering.quiet(Duration::from_secs(4)).await?;
        let gone = http::metric(server.admin, "gateway_closes_total", "reason=\"ping_timeout\"")?;
        assert_eq!(gone, 1.0, "the one that never answers, and only that");
        drop(silent);
        Ok(())
    })
    .await
}
