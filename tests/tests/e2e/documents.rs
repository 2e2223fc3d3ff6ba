//! What README.md and docs/protocol.md show is what a server says: their transcripts are run, frame by frame.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tidegate_tests::{Client, Server, ServerOptions, http};

use crate::with_options;

#[tokio::test]
async fn what_the_readme_shows_is_what_a_client_sees() -> Result<()> {
    run("README.md", 4, 4).await
}

#[tokio::test]
async fn what_the_protocol_shows_is_what_clients_see() -> Result<()> {
    run("docs/protocol.md", 19, 4).await
}

/// Runs a document against a fresh server of each engine. The numbers hold the reading of it: nothing was overlooked.
async fn run(document: &str, lines: usize, calls: usize) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let steps = steps(&std::fs::read_to_string(path)?);
    let found = steps
        .iter()
        .filter(|step| matches!(step, Step::Call { .. }))
        .count();
    assert_eq!((steps.len() - found, found), (lines, calls), "{steps:#?}");
    let options = |engine| ServerOptions::new(engine).setting("GATEWAY__NAME", "edge-1");
    with_options(options, async |server| {
        let mut play = Play::new(server, &steps).await?;
        for step in &steps {
            play.step(step).await.with_context(|| format!("{step:?}"))?;
        }
        Ok(())
    })
    .await
}

/// One thing that a document shows.
#[derive(Debug)]
enum Step {
    /// `1> {…}`: a user says something.
    Says { user: u64, text: String },
    /// `1< {…}`: a user gets a frame.
    Gets { user: u64, text: String },
    /// `curl -s …`, and what it prints where that is shown.
    Call { command: String, answer: String },
}

/// Returns what the code blocks of a document show; a line that begins no step goes on with the one before.
fn steps(document: &str) -> Vec<Step> {
    let blocks = document.split("```").skip(1).step_by(2);
    blocks
        .flat_map(|block| {
            let mut steps: Vec<Step> = Vec::new();
            for line in block.lines().skip(1).map(str::trim) {
                match (Step::begin(line), steps.last_mut()) {
                    (Some(step), _) => steps.push(step),
                    (None, Some(step)) => step.go_on(line),
                    (None, None) => {}
                }
            }
            steps
        })
        .collect()
}

impl Step {
    fn begin(line: &str) -> Option<Self> {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        if let Some(command) = line.strip_prefix("curl -s ") {
            let (command, answer) = (command.to_owned(), String::new());
            return Some(Self::Call { command, answer });
        }
        let (mark, text) = line.split_once(' ')?;
        let text = text.to_owned();
        // Where only one user speaks, the lines do not say which.
        let user = |digits: &str| match digits {
            "" => Some(1),
            digits => digits.parse().ok(),
        };
        match mark.strip_suffix('>') {
            Some(digits) => user(digits).map(|user| Self::Says { user, text }),
            None => user(mark.strip_suffix('<')?).map(|user| Self::Gets { user, text }),
        }
    }

    fn go_on(&mut self, line: &str) {
        match self {
            Self::Says { text, .. } | Self::Gets { text, .. } => text.push_str(line),
            Self::Call { command, answer } => match command.strip_suffix('\\') {
                Some(begun) => *command = format!("{begun}{line}"),
                None => answer.push_str(line),
            },
        }
    }
}

/// A document on its way.
struct Play<'a> {
    server: &'a Server,
    clients: BTreeMap<u64, Client>,
    /// What the document calls a cursor, a time or a session, and what it is today.
    known: BTreeMap<String, String>,
}

impl<'a> Play<'a> {
    /// Connects everybody; those who are not shown to say hello have done so before.
    async fn new(server: &'a Server, steps: &[Step]) -> Result<Self> {
        let mut clients = BTreeMap::new();
        for step in steps {
            if let Step::Says { user, text } | Step::Gets { user, text } = step
                && !clients.contains_key(user)
            {
                let client = match text.contains(r#""type":"hello""#) {
                    true => Client::connect(server.listen).await?,
                    false => Client::live(server.listen, *user, 1).await?,
                };
                clients.insert(*user, client);
            }
        }
        Ok(Self {
            server,
            clients,
            known: BTreeMap::new(),
        })
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Says { user, text } => {
                let known = self.known.iter();
                let text = known.fold(text.clone(), |text, (shown, is)| text.replace(shown, is));
                self.client(*user)?.send_text(&text).await
            }
            Step::Gets { user, text } => {
                let frame = self.client(*user)?.frame().await?;
                self.compare(text, &frame)
            }
            Step::Call { command, answer } => {
                let printed = call(self.server, command)?;
                match answer.is_empty() {
                    true => Ok(()),
                    false => self.compare(answer, &printed),
                }
            }
        }
    }

    fn client(&mut self, user: u64) -> Result<&mut Client> {
        self.clients.get_mut(&user).context("nobody by that number")
    }

    /// Compares JSON with how it is shown, where `…` stands for a value, or for more fields.
    fn compare(&mut self, shown: &str, is: &str) -> Result<()> {
        let shown = shown
            .replace(":…", ":\"…\"")
            .replace(",…}", ",\"…\":\"…\"}")
            .replace("\"\"…\"\"", "\"…\"");
        let shown = serde_json::from_str(&shown).with_context(|| format!("shown: {shown}"))?;
        let value = serde_json::from_str(is).with_context(|| format!("not JSON: {is}"))?;
        self.compare_values("", &shown, &value)
            .with_context(|| format!("not as shown: {is}"))
    }

    fn compare_values(&mut self, name: &str, shown: &Value, is: &Value) -> Result<()> {
        match (shown, is) {
            (Value::String(any), _) if any == "…" => Ok(()),
            (Value::Object(shown), Value::Object(is)) => {
                for (name, shown) in shown.iter().filter(|(name, _)| *name != "…") {
                    let is = is.get(name).with_context(|| format!("no {name}"))?;
                    self.compare_values(name, shown, is)?;
                }
                let added = is.keys().find(|name| !shown.contains_key(*name));
                ensure!(shown.contains_key("…") || added.is_none(), "also {added:?}");
                Ok(())
            }
            (Value::Array(shown), Value::Array(is)) => {
                ensure!(shown.len() == is.len(), "{name} has {} elements", is.len());
                let mut pairs = shown.iter().zip(is);
                pairs.try_for_each(|(shown, is)| self.compare_values(name, shown, is))
            }
            _ if OF_THE_DAY.contains(&name) => {
                let is = is.to_string();
                let known = self.known.entry(shown.to_string()).or_insert(is.clone());
                ensure!(*known == is, "{name} {shown} is {is}, and was {known} before");
                Ok(())
            }
            _ => {
                ensure!(shown == is, "{name} is {is}, not {shown}");
                Ok(())
            }
        }
    }
}

/// Fields whose values are another run's; the same value at two places of a document is one value in each run.
const OF_THE_DAY: [&str; 5] = [
    "server_time_ms",
    "session_id",
    "cursor",
    "timestamp",
    "last_message_at",
];

/// Does what a command line of curl does, at the ports of this server, and returns the body.
fn call(server: &Server, command: &str) -> Result<String> {
    let url = command
        .split([' ', '\''])
        .find(|word| word.starts_with("127.0.0.1:"));
    let (address, path) = url.and_then(|url| url.split_once('/')).context("no URL")?;
    let address = match address {
        "127.0.0.1:9001" => server.api,
        "127.0.0.1:9002" => server.admin,
        _ => bail!("nothing listens on {address}"),
    };
    let path = format!("/{path}");
    let answer = match command.split_once("-d '") {
        None => http::get(address, &path, None)?,
        Some((_, body)) => {
            let body = serde_json::from_str(body.trim_end_matches('\''))?;
            http::post(address, &path, None, &body)?
        }
    };
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.text)
}
