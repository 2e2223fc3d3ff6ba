//! What the command writes to a terminal, and who gets no control characters.

mod support;

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::{Fault, Stub};

/// Runs the command with a new terminal as its outputs; returns what appeared on it.
fn on_terminal(arguments: &str, environment: &[(&str, &str)]) -> String {
    let keeper = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keeper).unwrap();
    unlockpt(&keeper).unwrap();
    let name = ptsname(&keeper, Vec::new()).unwrap();
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(std::ffi::OsStr::from_bytes(name.as_bytes()))
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments.split_whitespace())
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(environment.iter().copied())
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal)
        .spawn()
        .unwrap();
    let (mut keeper, mut seen, mut buffer) = (File::from(keeper), Vec::new(), [0; 4096]);
    // A terminal that nobody has open any more ends in an error, not in an end of file.
    while let Ok(bytes @ 1..) = keeper.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..bytes]);
    }
    child.wait().unwrap();
    String::from_utf8(seen).unwrap()
}

#[test]
fn a_terminal_gets_a_bar_unless_no_control_characters_are_wanted() {
    let run = |environment: &[(&str, &str)]| {
        let stub = Stub::chat(Fault::Honest);
        let run = "--conns 2 --rate 50 --duration 1500ms --max-slip 1h --max-missed 100";
        on_terminal(&format!("chat --target {} {run}", stub.url()), environment)
    };
    let drawn = run(&[]);
    assert!(drawn.contains('\u{1b}'), "{drawn:?}");
    let drawn = run(&[("NO_COLOR", "")]);
    assert!(drawn.contains('\u{1b}'), "empty means not set: {drawn:?}");
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let lines = run(&[plain]);
        assert!(!lines.contains('\u{1b}'), "{plain:?}: {lines:?}");
        assert!(
            lines.contains("\nmeasuring ") || lines.starts_with("measuring "),
            "{lines}"
        );
        assert!(lines.trim_end().ends_with(" verdict=pass"), "{lines}");
    }
}

#[test]
fn errors_of_usage_are_plain_where_no_colour_is_wanted() {
    let coloured = on_terminal("chat --conns many", &[]);
    assert!(coloured.contains('\u{1b}'), "{coloured:?}");
    let plain = on_terminal("chat --conns many", &[("NO_COLOR", "1")]);
    assert!(
        plain.contains("--conns") && !plain.contains('\u{1b}'),
        "{plain:?}"
    );
}
