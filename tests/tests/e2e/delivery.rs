//! Order, echo, offline backlog, resume, windows, replacement: what a device sees, across reconnects and restarts.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tidegate_tests::client::{Arrival, PATIENCE};
use tidegate_tests::{Client, ServerOptions};
use tokio_tungstenite::tungstenite::Message;

use crate::{message_id, on_both, send, with_options};

fn contents(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .filter(|e| e["type"] == "message")
        .map(|e| e["content"].as_str().unwrap().to_owned())
        .collect()
}

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("m{number}")).collect()
}

async fn send_numbered(client: &mut Client, receiver: u64, range: std::ops::Range<u32>) -> Result<()> {
    for content in numbered(range) {
        assert_eq!(
            client.message(receiver, &message_id(), &content).await?["type"],
            "sent"
        );
    }
    Ok(())
}

/// Reads messages, acking each, until `count` of them have come.
async fn receive(client: &mut Client, count: usize) -> Result<Vec<Value>> {
    let mut messages: Vec<Value> = Vec::new();
    while messages.len() < count {
        let event = client.event().await?;
        if event["type"] == "message" {
            client.ack(event["cursor"].as_str().unwrap()).await?;
            messages.push(event);
        }
    }
    Ok(messages)
}

#[tokio::test]
async fn messages_arrive_in_order_with_dense_seqs_and_rising_cursors() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        // Pipelined: nothing waits for an answer.
        for content in numbered(0..500) {
            alice.send(&send(2, &message_id(), &content)).await?;
        }
        let messages = receive(&mut bob, 500).await?;
        assert_eq!(contents(&messages), numbered(0..500));
        let seqs: Vec<u64> = messages.iter().map(|m| m["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=500).collect::<Vec<_>>());
        assert!(
            messages
                .windows(2)
                .all(|pair| pair[0]["cursor"].as_str() < pair[1]["cursor"].as_str())
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn other_devices_of_the_sender_get_the_echo_and_the_sending_device_does_not() -> Result<()> {
    on_both(async |server| {
        let mut phone = Client::live(server.listen, 1, 1).await?;
        let mut laptop = Client::live(server.listen, 1, 2).await?;
        phone.message(2, &message_id(), "from the phone").await?;
        let echo = laptop.expect("message").await?;
        assert_eq!(
            (&echo["content"], &echo["sender_device"]),
            (&json!("from the phone"), &json!(1))
        );
        // To oneself: it reaches the other device, once.
        laptop.message(1, &message_id(), "note to self").await?;
        assert_eq!(phone.expect("message").await?["content"], "note to self");
        phone.quiet(Duration::from_millis(150)).await?;
        laptop.quiet(Duration::from_millis(150)).await?;
        // Nor in a backlog.
        drop(phone);
        let (mut phone, _) = Client::hello(server.listen, 1, 1).await?;
        assert_eq!(contents(&phone.until("synced").await?), ["note to self"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_offline_user_gets_the_backlog_then_synced_then_live() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        send_numbered(&mut alice, 2, 0..40).await?;
        let (mut bob, welcome) = Client::hello(server.listen, 2, 1).await?;
        let events = bob.until("synced").await?;
        assert_eq!(contents(&events), numbered(0..40));
        assert_eq!(events.last().unwrap()["cursor"], welcome["cursor"]);
        send_numbered(&mut alice, 2, 40..41).await?;
        assert_eq!(bob.expect("message").await?["content"], "m40");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_backlog_larger_than_the_window_flows_as_it_is_acked() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        send_numbered(&mut alice, 2, 0..50).await?;
        let mut bob = Client::connect(server.listen).await?;
        bob.send(&json!({"type": "hello", "user_id": 2, "window": 8}))
            .await?;
        bob.expect("welcome").await?;
        let mut first = Vec::new();
        while let Some(Arrival::Event(event)) = bob.arrival_within(Duration::from_millis(300)).await? {
            first.push(event);
        }
        assert_eq!(contents(&first), numbered(0..8), "the window holds the rest back");
        bob.ack(first[7]["cursor"].as_str().unwrap()).await?;
        let messages = receive(&mut bob, 42).await?;
        assert_eq!(contents(&messages), numbered(8..50));
        bob.expect("synced").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_device_that_never_acks_stops_at_its_window_and_stays_connected() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::connect(server.listen).await?;
        bob.send(&json!({"type": "hello", "user_id": 2, "window": 2}))
            .await?;
        bob.until("synced").await?;
        send_numbered(&mut alice, 2, 0..5).await?;
        bob.expect("message").await?;
        bob.expect("message").await?;
        bob.quiet(Duration::from_millis(300)).await?;
        bob.send(&json!({"type": "ping"})).await?;
        bob.expect("pong").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_window_is_also_bounded_by_bytes() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::connect(server.listen).await?;
        bob.send(&json!({"type": "hello", "user_id": 2, "window": 256}))
            .await?;
        bob.until("synced").await?;
        let large = "x".repeat(10_000);
        for _ in 0..30 {
            alice.message(2, &message_id(), &large).await?;
        }
        let mut bytes = 0;
        while let Some(Arrival::Event(event)) = bob.arrival_within(Duration::from_millis(300)).await? {
            bytes += event["content"].as_str().unwrap().len();
        }
        assert!(bytes > 60_000 && bytes <= 128 * 1024, "{bytes} bytes in flight");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cursor_resumes_without_loss_or_repetition() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        send_numbered(&mut alice, 2, 0..10).await?;
        let mut cursor = String::new();
        for _ in 0..6 {
            cursor = bob.expect("message").await?["cursor"]
                .as_str()
                .unwrap()
                .to_owned();
        }
        drop(bob);
        send_numbered(&mut alice, 2, 10..12).await?;
        let (mut bob, welcome) = Client::resume(server.listen, 2, 1, Some(&cursor)).await?;
        assert_eq!(welcome["resumed"], true);
        assert_eq!(contents(&bob.until("synced").await?), numbered(6..12));
        // The cursor counted as an ack: without one the device goes on behind it.
        drop(bob);
        let (mut bob, _) = Client::hello(server.listen, 2, 1).await?;
        assert_eq!(contents(&bob.until("synced").await?), numbered(6..12));
        // A known cursor older than the acked one delivers again.
        drop(bob);
        let old = format!("{}{}", &cursor[..8], "0".repeat(20));
        let (mut bob, welcome) = Client::resume(server.listen, 2, 1, Some(&old)).await?;
        assert_eq!(welcome["resumed"], true);
        assert_eq!(contents(&bob.until("synced").await?), numbered(0..12));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_cursor_of_synced_can_be_acked_also_behind_own_sends() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        alice.message(2, &message_id(), "m0").await?;
        bob.message(1, &message_id(), "own").await?;
        drop(bob);
        let (mut bob, _) = Client::hello(server.listen, 2, 1).await?;
        let events = bob.until("synced").await?;
        assert_eq!(contents(&events), ["m0"]);
        let update = async |alice: &mut Client| -> Result<Value> {
            Ok(alice.until("status_update").await?.pop().unwrap_or_default())
        };
        bob.ack(events.last().unwrap()["cursor"].as_str().unwrap())
            .await?;
        assert_eq!(update(&mut alice).await?["status"], "delivered");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_foreign_or_impossible_cursor_gets_resync_and_everything_kept() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        send_numbered(&mut alice, 2, 0..3).await?;
        let (probe, welcome) = Client::hello(server.listen, 2, 9).await?;
        drop(probe);
        let head = welcome["cursor"].as_str().unwrap();
        let foreign = format!("00000001{}", &head[8..]);
        let beyond = format!("{}{}", &head[..8], "f".repeat(20));
        for (device, cursor) in [(1, foreign), (2, beyond)] {
            let (mut bob, welcome) = Client::resume(server.listen, 2, device, Some(&cursor)).await?;
            assert_eq!(welcome["resumed"], false);
            let events = bob.until("synced").await?;
            assert_eq!(events[0]["type"], "resync", "{events:?}");
            assert!(events[0]["reason"].is_string() && events[0]["oldest_cursor"].is_string());
            assert_eq!(contents(&events), numbered(0..3));
        }
        let mut bob = Client::connect(server.listen).await?;
        bob.send(&json!({"type": "hello", "user_id": 2, "cursor": "no cursor"}))
            .await?;
        assert_eq!(bob.expect("error").await?["code"], "bad_request");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_newest_connection_of_a_device_wins() -> Result<()> {
    on_both(async |server| {
        let mut old = Client::live(server.listen, 1, 1).await?;
        let mut new = Client::live(server.listen, 1, 1).await?;
        assert_eq!(old.close_code().await?, Some(4409));
        let mut other = Client::live(server.listen, 2, 1).await?;
        other.message(1, &message_id(), "x").await?;
        new.expect("message").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_ninth_device_is_refused_and_may_try_again_as_a_known_one() -> Result<()> {
    on_both(async |server| {
        for device in 1..=8 {
            Client::live(server.listen, 1, device).await?;
        }
        let mut ninth = Client::connect(server.listen).await?;
        let hello = json!({"type": "hello", "user_id": 1, "device_id": 9}).to_string();
        let early = json!({"type": "send", "id": 2, "receiver_id": 2, "content": "x"}).to_string();
        ninth
            .send_together(vec![Message::text(hello), Message::text(early)])
            .await?;
        assert_eq!(ninth.expect("error").await?["code"], "too_many_devices");
        let rejected = ninth.expect("rejected").await?;
        assert_eq!(
            (&rejected["id"], &rejected["code"]),
            (&json!(2), &json!("bad_request"))
        );
        ninth
            .send(&json!({"type": "hello", "user_id": 1, "device_id": 8}))
            .await?;
        ninth.until("synced").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_reads_may_ask_for_many_large_pages_at_once() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let text = "x".repeat(9_500);
        let mut conversation = Value::Null;
        for _ in 0..12 {
            conversation = alice.message(2, &message_id(), &text).await?["conversation_id"].clone();
        }
        let ask =
            |id: u32| json!({"type": "history", "conversation_id": conversation, "limit": 100, "id": id});
        let asked: Vec<Value> = (0..40).map(ask).collect();
        alice.send(&json!({"type": "batch", "messages": asked})).await?;
        for id in 0..40 {
            let page = alice.expect("history").await?;
            assert_eq!(page["id"], id);
            assert!(
                page["messages"]
                    .as_array()
                    .is_some_and(|messages| messages.len() >= 9)
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn everything_survives_a_restart() -> Result<()> {
    with_options(ServerOptions::new, async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        let id = message_id();
        let first = alice.message(2, &id, "m0").await?;
        send_numbered(&mut alice, 2, 1..4).await?;
        let cursor = bob.expect("message").await?["cursor"]
            .as_str()
            .unwrap()
            .to_owned();
        bob.send(&json!({"type": "status", "status": "read", "message_id": id}))
            .await?;
        alice.until("status_update").await?;
        let directory = server.keep_data();
        assert!(server.terminate(Duration::from_secs(20))?.success());
        let options = ServerOptions::new(tidegate_tests::Engine::Poll).data(&server.data);
        let mut again = options.start()?;
        let (mut bob, welcome) = Client::resume(again.listen, 2, 1, Some(&cursor)).await?;
        assert_eq!(welcome["resumed"], true);
        assert_eq!(contents(&bob.until("synced").await?), numbered(1..4));
        let mut alice = Client::live(again.listen, 1, 1).await?;
        let repeated = alice.message(2, &id, "m0").await?;
        assert_eq!(
            (&repeated["duplicate"], &repeated["seq"]),
            (&json!(true), &first["seq"])
        );
        let next = alice.message(2, &message_id(), "m4").await?;
        assert_eq!(next["seq"], 5);
        alice.send(&json!({"type": "conversations"})).await?;
        let page = alice.expect("conversations").await?;
        assert_eq!(
            (
                &page["conversations"][0]["read_seq"],
                &page["conversations"][0]["delivered_seq"]
            ),
            (&json!(1), &json!(1))
        );
        again.kill9()?;
        drop(directory);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn several_outputs_of_a_tick_may_share_a_frame_and_linger_collects_more() -> Result<()> {
    let options = |engine| ServerOptions::new(engine).setting("GATEWAY__BATCH_LINGER_MS", "60");
    with_options(options, async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        for content in numbered(0..30) {
            alice.send(&send(2, &message_id(), &content)).await?;
        }
        assert_eq!(contents(&receive(&mut bob, 30).await?), numbered(0..30));
        let frames = tidegate_tests::http::metric(server.admin, "gateway_frames_sent_total", "")?;
        let events = 30.0 + 30.0 + 4.0;
        assert!(frames < events, "{frames} frames for {events} events and more");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn workers_share_one_port_and_deliver_to_each_other() -> Result<()> {
    let options = |engine| {
        let mut options = ServerOptions::new(engine);
        options.workers = 2;
        options
    };
    with_options(options, async |server| {
        // By the hash of the kernel these land on both workers.
        let mut clients = Vec::new();
        for user in 1..=12 {
            clients.push(Client::live(server.listen, user, 1).await?);
        }
        for user in 1..=12_u64 {
            let receiver = user % 12 + 1;
            clients[user as usize - 1]
                .message(receiver, &message_id(), "round")
                .await?;
        }
        for client in &mut clients {
            let mut events = Vec::new();
            while contents(&events).is_empty() {
                match client.arrival_within(PATIENCE).await? {
                    Some(Arrival::Event(event)) => events.push(event),
                    other => anyhow::bail!("{other:?}"),
                }
            }
        }
        Ok(())
    })
    .await
}

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    /// The ack and a close frame in one write.
    CloseFrame,
    /// The ack, then the end of the stream.
    EndOfStream,
}

#[tokio::test]
async fn an_ack_counts_even_if_the_client_leaves_with_it() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        // More than once: how much of it the server reads at a time is chance.
        for round in 0..10 {
            for leaving in [Leaving::CloseFrame, Leaving::EndOfStream] {
                let mut bob = Client::live(server.listen, 2, 1).await?;
                let sent = alice
                    .message(2, &message_id(), &format!("{leaving:?} {round}"))
                    .await?;
                let cursor = bob.expect("message").await?["cursor"].clone();
                let ack = json!({"type": "ack", "cursor": cursor}).to_string();
                match leaving {
                    Leaving::CloseFrame => {
                        bob.send_together(vec![Message::text(ack), Message::Close(None)])
                            .await?;
                        assert_eq!(bob.close_code().await?, Some(1000));
                    }
                    Leaving::EndOfStream => bob.send_text(&ack).await?,
                }
                drop(bob);
                let update = alice.expect("status_update").await?;
                assert_eq!(
                    (&update["status"], &update["seq"]),
                    (&json!("delivered"), &sent["seq"])
                );
                let (mut bob, _) = Client::hello(server.listen, 2, 1).await?;
                assert_eq!(contents(&bob.until("synced").await?), [""; 0], "{leaving:?}");
            }
        }
        Ok(())
    })
    .await
}
