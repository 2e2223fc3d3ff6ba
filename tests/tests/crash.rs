//! kill -9 at random moments under load, judged from outside: nothing with `sent` is lost, no message_id gets a second
//! seq, no gap in any conversation. `CRASH_ROUNDS` (default 10) sets the rounds, `CRASH_SEED` repeats a run.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tidegate_tests::client::{Arrival, PATIENCE};
use tidegate_tests::{Client, Server, ServerOptions, host};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use wire_base::random::Random;

const PAIRS: u64 = 12;

/// What the world outside knows: every id ever sent, and the seq its `sent` named.
#[derive(Default)]
struct Ledger {
    /// Per sender: message id -> seq, `None` while the outcome is unknown.
    sends: HashMap<u64, BTreeMap<String, Option<u64>>>,
    violations: Vec<String>,
}

impl Ledger {
    fn acknowledged(&self) -> usize {
        let sends = self.sends.values().flat_map(BTreeMap::values);
        sends.filter(|seq| seq.is_some()).count()
    }

    fn note_sent(&mut self, sender: u64, answer: &Value) {
        let id = answer["message_id"].as_str().unwrap_or_default();
        let seq = answer["seq"].as_u64();
        match self.sends.entry(sender).or_default().get_mut(id) {
            None => self.violations.push(format!(
                "`sent` for an id that user {sender} never sent: {answer}"
            )),
            Some(Some(before)) if Some(*before) != seq => {
                self.violations
                    .push(format!("{id} of user {sender} had seq {before}, now {answer}"));
            }
            Some(known) => *known = seq,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed_at_random_moments() -> Result<()> {
    let rounds: u32 = variable("CRASH_ROUNDS", 10)?;
    let seed: u64 = variable("CRASH_SEED", std::process::id().into())?;
    println!("{rounds} rounds; repeat with CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let mut random = Random::seeded(seed);
    let directory = tempfile::tempdir()?;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut engines = host::engines().iter().cycle();
    for round in 0..rounds {
        let engine = *engines.next().expect("a cycle has no end");
        let mut server = ServerOptions::new(engine)
            .data(directory.path())
            .start()
            .context("restart")?;
        let before = ledger.lock().expect("no panic holds it").acknowledged();
        let tasks: Vec<_> = (1..=PAIRS)
            .map(|pair| tokio::spawn(chatter(server.listen, pair, Arc::clone(&ledger))))
            .collect();
        tokio::time::sleep(Duration::from_millis(150 + random.below(1_200))).await;
        let deadline = Instant::now() + PATIENCE;
        while ledger.lock().expect("no panic holds it").acknowledged() == before {
            if Instant::now() > deadline {
                let log = server.process.errors();
                bail!("round {round} on {engine:?}: nothing was acknowledged within {PATIENCE:?}; {log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Who stops before the kill does not stop because of it.
        let early: Vec<bool> = tasks.iter().map(JoinHandle::is_finished).collect();
        server.kill9()?;
        for (task, early) in tasks.into_iter().zip(early) {
            let outcome = task.await?;
            if early || outcome.as_ref().is_err_and(|error| !is_of_the_kill(error)) {
                let log = server.process.errors();
                bail!(
                    "round {round} on {engine:?}: a client stopped (before the kill: {early}) with {outcome:?}; {log}"
                );
            }
        }
        let known = ledger.lock().expect("no panic holds it");
        assert_eq!(known.violations, [""; 0], "round {round}");
        let acknowledged = known.acknowledged();
        println!(
            "round {round} on {engine:?}: {} acknowledged, {acknowledged} so far",
            acknowledged - before
        );
    }
    let server = ServerOptions::new(host::engine())
        .data(directory.path())
        .start()
        .context("last start")?;
    audit(&server, &ledger).await
}

/// Returns whether an error is how a client meets the end of the process.
fn is_of_the_kill(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<WsError>() {
        Some(WsError::Io(_) | WsError::ConnectionClosed | WsError::AlreadyClosed) => true,
        Some(WsError::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
        )) => true,
        Some(_) => false,
        // The harness in its own words: a stream that ended without a close.
        None => {
            let text = error.to_string();
            text.starts_with("closed with None") || text.ends_with("got Closed(None)")
        }
    }
}

/// A user of a pair: sends without pause, resends what is unknown under the same id, until the server is gone.
async fn chatter(address: std::net::SocketAddr, pair: u64, ledger: Arc<Mutex<Ledger>>) -> Result<()> {
    let (user, peer) = (pair * 2, pair * 2 + 1);
    let mut client = Client::live_skipping(address, user, 1).await?;
    let unknown: Vec<String> = {
        let ledger = ledger.lock().expect("no panic holds it");
        let sends = ledger.sends.get(&user);
        sends
            .into_iter()
            .flatten()
            .filter(|(_, seq)| seq.is_none())
            .map(|(id, _)| id.clone())
            .collect()
    };
    let mut pending: usize = 0;
    for number in 0.. {
        let id = match unknown.get(number) {
            Some(id) => id.clone(),
            None => uuid::Uuid::now_v7().to_string(),
        };
        ledger
            .lock()
            .expect("no panic holds it")
            .sends
            .entry(user)
            .or_default()
            .entry(id.clone())
            .or_insert(None);
        // The content is the id, so that a resend never conflicts.
        client
            .send(&json!({"type": "send", "receiver_id": peer, "message_id": id, "content": id}))
            .await?;
        pending += 1;
        while pending >= 16 {
            match client.arrival().await? {
                Arrival::Closed(None) => return Ok(()),
                Arrival::Closed(code) => bail!("closed with {code:?}"),
                Arrival::Event(event) if event["type"] == "sent" => {
                    ledger.lock().expect("no panic holds it").note_sent(user, &event);
                    pending -= 1;
                }
                Arrival::Event(event) if event["type"] == "rejected" => {
                    let mut ledger = ledger.lock().expect("no panic holds it");
                    ledger.violations.push(format!("rejected: {event}"));
                    return Ok(());
                }
                Arrival::Event(_) => {}
            }
        }
    }
    Ok(())
}

/// Reads every conversation and every receiver's inbox to the end and compares them with the ledger.
async fn audit(server: &Server, ledger: &Mutex<Ledger>) -> Result<()> {
    let sends = std::mem::take(&mut ledger.lock().expect("no panic holds it").sends);
    let mut acknowledged = 0;
    for pair in 1..=PAIRS {
        let (user, peer) = (pair * 2, pair * 2 + 1);
        let known = sends.get(&user).cloned().unwrap_or_default();
        let (mut receiver, _) = Client::hello(server.listen, peer, 1).await?;
        let mut inbox: Vec<(u64, String)> = Vec::new();
        loop {
            let event = receiver.event().await?;
            match event["type"].as_str() {
                Some("synced") => break,
                Some("message") => {
                    receiver.ack(event["cursor"].as_str().context("cursor")?).await?;
                    let id = event["message_id"].as_str().context("id")?.to_owned();
                    inbox.push((event["seq"].as_u64().context("seq")?, id));
                }
                _ => bail!("unexpected {event}"),
            }
        }
        // Dense from 1, in order, each id once.
        for (at, (seq, id)) in inbox.iter().enumerate() {
            assert_eq!(
                *seq,
                at as u64 + 1,
                "gap or reorder in the inbox of {peer} at {id}"
            );
            assert!(known.contains_key(id), "{id} was never sent");
        }
        let placed: HashMap<&str, u64> = inbox.iter().map(|(seq, id)| (id.as_str(), *seq)).collect();
        assert_eq!(
            placed.len(),
            inbox.len(),
            "an id has two seqs in the inbox of {peer}"
        );
        for (id, seq) in &known {
            let Some(seq) = seq else { continue };
            acknowledged += 1;
            assert_eq!(
                placed.get(id.as_str()),
                Some(seq),
                "acknowledged {id} of {user} is not where `sent` said"
            );
        }
        history_agrees(server, user, &inbox).await?;
    }
    println!("audited {acknowledged} acknowledged messages: all present, in order, once");
    assert!(
        acknowledged > 100,
        "the load was too small to prove anything: {acknowledged}"
    );
    Ok(())
}

async fn history_agrees(server: &Server, user: u64, inbox: &[(u64, String)]) -> Result<()> {
    if inbox.is_empty() {
        return Ok(());
    }
    let mut client = Client::live_skipping(server.listen, user, 1).await?;
    client.send(&json!({"type": "conversations"})).await?;
    // Updates of what a peer has just acked may come first.
    let page = client.until("conversations").await?.pop().context("a page")?;
    let row = &page["conversations"][0];
    assert_eq!(row["last_seq"], inbox.len() as u64);
    let mut before = inbox.len() as u64 + 1;
    while before > 1 {
        client
            .send(&json!({"type": "history", "conversation_id": row["conversation_id"], "before_seq": before, "limit": 100}))
            .await?;
        let page = client.until("history").await?.pop().context("a page")?;
        let messages = page["messages"].as_array().context("messages")?;
        assert!(!messages.is_empty(), "history ends before seq 1");
        for message in messages {
            before -= 1;
            let (seq, id) = &inbox[before as usize - 1];
            assert_eq!(
                (message["seq"].as_u64(), message["message_id"].as_str()),
                (Some(*seq), Some(id.as_str()))
            );
        }
    }
    Ok(())
}

fn variable<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text
            .parse()
            .map_err(|_| anyhow::anyhow!("{name}={text} is not a number")),
    }
}
