//! What this host lets a test do. What is missing is said loudly, on a line that `./tests/run` counts as skipped.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::server::{self, Engine};

/// Returns the engines that work here. Where io_uring does not, the calling test counts as skipped, once.
pub fn engines() -> &'static [Engine] {
    match uring_refusal() {
        None => &[Engine::Uring, Engine::Poll],
        Some(refusal) => {
            skipped(&format!("io_uring, so only epoll is tested here: {refusal}"));
            &[Engine::Poll]
        }
    }
}

/// Returns the engine for a test that needs any one: io_uring where it works.
pub fn engine() -> Engine {
    if uring_refusal().is_none() {
        Engine::Uring
    } else {
        Engine::Poll
    }
}

/// Returns whether an engine works here; says so where it does not.
pub fn has(engine: Engine) -> bool {
    engine == Engine::Poll || engines().contains(&engine)
}

/// Returns whether a process may mount a disk of its own; says so where it may not.
pub fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs -o size=1m none /tmp && touch /tmp/x",
        ])
        .output();
    let refusal = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "),
        Err(error) => error.to_string(),
    };
    skipped(&format!("a disk of its own needs the right to mount: {refusal}"));
    false
}

/// Says, once a test, what is not tested.
fn skipped(what: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    // The test harness names each thread after its test.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(test) {
        println!("SKIPPED: {what}");
    }
}

/// Why the server cannot use io_uring here, found out once by asking it to.
fn uring_refusal() -> Option<&'static str> {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    REFUSAL
        .get_or_init(|| {
            let mut echo = server::echo(Engine::Uring).expect("the binary under test starts");
            match echo.ready_line(Duration::from_secs(20)) {
                Ok(_) => None,
                Err(error) if error.to_string().contains("--engine uring:") => {
                    Some(error.to_string().trim().replace('\n', " "))
                }
                // Anything else is a fault, which the tests themselves will find.
                Err(_) => None,
            }
        })
        .as_deref()
}
