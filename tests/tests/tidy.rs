//! Rules of the repository that a reader would otherwise have to enforce by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The arrows of the design: every crate, and the crates of this workspace it uses. All downward.
const ARROWS: [(&str, &[&str]); 18] = [
    ("wire-base", &[]),
    ("wire-ws", &["wire-base"]),
    ("wire-client", &["wire-base"]),
    ("wire-link", &["wire-base", "wire-client"]),
    ("wire-auth", &["wire-base"]),
    ("runtime", &["wire-base"]),
    ("bounded-http", &[]),
    ("exposition", &[]),
    (
        "gateway-core",
        &["wire-auth", "wire-base", "wire-client", "wire-link", "wire-ws"],
    ),
    (
        "gateway-server",
        &[
            "bounded-http",
            "exposition",
            "gateway-core",
            "runtime",
            "wire-auth",
            "wire-base",
            "wire-link",
        ],
    ),
    ("router-records", &["wire-base"]),
    ("router-core", &["router-records", "wire-base", "wire-link"]),
    ("router-storage", &["router-records", "wire-base"]),
    (
        "router-server",
        &[
            "exposition",
            "router-core",
            "router-records",
            "router-storage",
            "wire-base",
            "wire-link",
        ],
    ),
    (
        "router-api",
        &[
            "bounded-http",
            "wire-auth",
            "wire-base",
            "wire-client",
            "wire-link",
        ],
    ),
    (
        "loadtest",
        &["runtime", "wire-auth", "wire-base", "wire-client", "wire-ws"],
    ),
    (
        "tidegate",
        &[
            "exposition",
            "gateway-core",
            "gateway-server",
            "loadtest",
            "router-api",
            "router-server",
            "wire-auth",
            "wire-base",
            "wire-link",
        ],
    ),
    ("tidegate-tests", &["*"]),
];

/// Crates that decide: they may not even be able to do I/O.
const PURE: [&str; 8] = [
    "wire-base",
    "wire-ws",
    "wire-client",
    "wire-link",
    "wire-auth",
    "gateway-core",
    "router-records",
    "router-core",
];
const IO_CRATES: [&str; 9] = [
    "tokio", "monoio", "glommio", "async-io", "mio", "libc", "io-uring", "rustix", "socket2",
];
/// Arrows to such a crate that stay, on ways through [`DRAWERS`] only: from, to. `getrandom` draws random numbers by a system
/// call, and `rand` asks `libc` whether the process has forked.
const IO_EXCEPTIONS: [(&str, &str); 2] = [("getrandom", "libc"), ("rand", "libc")];
/// What could draw random numbers and does not: to check a signature, to make an HMAC or a UUIDv5 none is drawn, and the
/// pure crates do no more.
const DRAWERS: [&str; 2] = ["wire-auth", "uuid"];
/// Behind the feature `samples`, which only tests turn on.
const SAMPLES: (&str, &str) = ("wire-base", "proptest");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the root")
        .to_owned()
}

#[test]
fn crate_arrows_are_those_of_the_design() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let members: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let expected: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        members, expected,
        "a crate came or went: decide its arrows in ARROWS and in ARCHITECTURE.md"
    );
    for package in &metadata.packages {
        let uses: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| {
                dependency.kind == DependencyKind::Normal && members.contains(&dependency.name)
            })
            .map(|dependency| dependency.name.as_str())
            .collect();
        let (_, arrows) = ARROWS[ARROWS
            .iter()
            .position(|(name, _)| *name == package.name.as_str())
            .expect("compared above")];
        let arrows: BTreeSet<&str> = arrows.iter().copied().collect();
        assert!(
            arrows.contains("*") || uses == arrows,
            "{} uses {uses:?}; ARROWS and ARCHITECTURE.md say {arrows:?}",
            package.name
        );
    }
}

#[test]
fn crates_that_decide_cannot_act_not_even_through_others() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        // Other systems have other crates, which nobody builds.
        .other_options([
            "--filter-platform".to_owned(),
            "x86_64-unknown-linux-gnu".to_owned(),
        ])
        .exec()
        .unwrap();
    let names: BTreeMap<_, &str> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package.name.as_str()))
        .collect();
    let resolve = metadata.resolve.as_ref().expect("metadata with dependencies");
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    for root in resolve
        .nodes
        .iter()
        .filter(|node| PURE.contains(&names[&node.id]))
    {
        let mut seen = BTreeSet::from([&root.id]);
        let mut paths = vec![vec![&root.id]];
        while let Some(path) = paths.pop() {
            let user = path[path.len() - 1];
            let normal = nodes[user].deps.iter().filter(|used| {
                used.dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal)
            });
            for used in normal {
                let arrow = (names[user], names[&used.pkg]);
                if arrow == SAMPLES {
                    continue;
                }
                let shown = || path.iter().map(|id| names[id]).collect::<Vec<_>>().join(" -> ");
                let is_excepted =
                    IO_EXCEPTIONS.contains(&arrow) && path.iter().any(|id| DRAWERS.contains(&names[id]));
                assert!(
                    !IO_CRATES.contains(&arrow.1) || is_excepted,
                    "a crate that decides must not be able to act: {} -> {}",
                    shown(),
                    arrow.1
                );
                // What is reached through another crate of this workspace is judged there.
                if !is_excepted && !PURE.contains(&arrow.1) && seen.insert(&used.pkg) {
                    paths.push([&path[..], &[&used.pkg]].concat());
                }
            }
        }
    }
}

#[test]
fn cargo_run_in_the_root_means_the_server() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let runs: Vec<String> = metadata
        .workspace_default_packages()
        .iter()
        .flat_map(|package| &package.targets)
        .filter(|target| target.is_bin())
        .map(|target| target.name.clone())
        .collect();
    assert_eq!(
        runs,
        ["tidegate"],
        "the first command of README.md is `cargo run --release -- demo`"
    );
}

#[test]
fn only_runtime_contains_unsafe_code() {
    for (path, text) in sources(&["rs"]) {
        let in_runtime = path.starts_with("gateway/runtime");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let found = ["unsafe {", "unsafe fn", "unsafe impl"]
                .iter()
                .any(|word| code.contains(word));
            let quoted = code.contains('"');
            assert!(
                in_runtime || quoted || !found,
                "{}:{}: {line}",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn source_files_stay_small_enough_to_be_one_idea() {
    for (path, text) in sources(&["rs"]) {
        let tests = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        let lines = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        assert!(tests || lines <= 1_000, "{} has {lines} lines", path.display());
    }
}

#[test]
fn nothing_names_one_machine_or_leaves_work_undone() {
    let markers = ["todo!(", "unimplemented!(", "FIXME", "XXX:"];
    let places = [
        "/ho".to_owned() + "me/",
        "/ro".to_owned() + "ot/",
        "/wo".to_owned() + "rk/",
    ];
    for (path, text) in sources(&["rs", "md", "toml", "sh", "yml", "json", ""]) {
        if path.ends_with("tidy.rs") || path.ends_with("Cargo.lock") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let at = format!("{}:{}: {line}", path.display(), number + 1);
            assert!(!markers.iter().any(|marker| line.contains(marker)), "{at}");
            assert!(!places.iter().any(|place| line.contains(place.as_str())), "{at}");
        }
    }
}

/// Text files that git tracks or would track, by extension (`""`: none), with paths relative to the root.
fn sources(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the tree");
    let names = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let mut files = Vec::new();
    for name in names.lines() {
        let path = PathBuf::from(name);
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if let (true, Ok(text)) = (
            extensions.contains(&extension),
            std::fs::read_to_string(root().join(&path)),
        ) {
            files.push((path, text));
        }
    }
    assert!(files.len() > 10, "the tree was not found");
    files
}
