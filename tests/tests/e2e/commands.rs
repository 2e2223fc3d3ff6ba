//! Every command and every event of docs/protocol.md, row by row.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tidegate_tests::Client;

use crate::{message_id, on_both, send};

#[tokio::test]
async fn hello_is_answered_by_welcome_with_every_field_then_synced() -> Result<()> {
    on_both(async |server| {
        let (mut client, welcome) = Client::hello(server.listen, 41, 3).await?;
        assert_eq!(welcome["id"], 1);
        assert_eq!(welcome["user_id"], 41);
        assert_eq!(welcome["device_id"], 3);
        assert_eq!(welcome["resumed"], false);
        assert!(
            welcome["server_time_ms"].as_u64().unwrap() > 1_700_000_000_000,
            "{welcome}"
        );
        assert!(!welcome["session_id"].as_str().unwrap().is_empty());
        assert!(!welcome["gateway"].as_str().unwrap().is_empty());
        assert_eq!(welcome["cursor"].as_str().unwrap().len(), 28);
        assert_eq!(welcome["ping_interval_ms"], 25_000);
        assert_eq!(welcome["limits"]["content_chars"], 10_000);
        assert_eq!(welcome["limits"]["frame_bytes"], 128 * 1024);
        assert_eq!(welcome["limits"]["window"], 64);
        assert!(welcome["limits"]["sends_per_s"].is_u64());
        let synced = client.expect("synced").await?;
        assert!(synced["cursor"].is_string());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn hello_takes_the_user_from_the_path_and_the_default_device() -> Result<()> {
    on_both(async |server| {
        let options = tidegate_tests::client::ConnectOptions {
            path: "/ws/77".into(),
            ..Default::default()
        };
        let mut client = Client::connect_with(server.listen, &options).await?;
        client.send(&json!({"type": "hello", "window": 5})).await?;
        let welcome = client.expect("welcome").await?;
        assert_eq!(
            (&welcome["user_id"], &welcome["device_id"]),
            (&json!(77), &json!(1))
        );
        assert_eq!(welcome["limits"]["window"], 5);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_bad_hello_may_be_repeated_and_a_second_one_is_an_error() -> Result<()> {
    on_both(async |server| {
        let mut client = Client::connect(server.listen).await?;
        client
            .send(&json!({"type": "hello", "user_id": 0, "id": 9}))
            .await?;
        let error = client.expect("error").await?;
        assert_eq!((&error["code"], &error["id"]), (&json!("bad_request"), &json!(9)));
        client
            .send(&json!({"type": "hello", "user_id": 5, "window": 257}))
            .await?;
        assert!(
            client.expect("error").await?["reason"]
                .as_str()
                .unwrap()
                .contains("window")
        );
        client.send(&json!({"type": "hello", "user_id": 5})).await?;
        client.until("synced").await?;
        client
            .send(&json!({"type": "hello", "user_id": 5, "id": 2}))
            .await?;
        let error = client.expect("error").await?;
        assert_eq!((&error["code"], &error["id"]), (&json!("bad_request"), &json!(2)));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn send_is_answered_by_sent_and_reaches_the_receiver_with_every_field() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        let id = message_id();
        let mut command = send(2, &id, "hello \"Bob\" \u{1F30A}\n");
        command["id"] = 12.into();
        command["media_url"] = "https://media.example/1".into();
        command["kind"] = "note".into();
        alice.send(&command).await?;
        let sent = alice.expect("sent").await?;
        assert_eq!(sent["id"], 12);
        assert_eq!(sent["message_id"], id.as_str());
        assert_eq!(sent["seq"], 1);
        assert_eq!(sent["duplicate"], false);
        // UUIDv5 of the DNS namespace and "1:2".
        assert_eq!(sent["conversation_id"], "b2c9ceb5-f0e9-5d6b-b95f-5a1275a567cd");
        let message = bob.expect("message").await?;
        assert_eq!(message["content"], "hello \"Bob\" \u{1F30A}\n");
        assert_eq!(message["sender_id"], 1);
        assert_eq!(message["sender_device"], 1);
        assert_eq!(message["media_url"], "https://media.example/1");
        assert_eq!(message["kind"], "note");
        for field in ["message_id", "conversation_id", "seq", "timestamp"] {
            assert_eq!(message[field], sent[field], "{field}");
        }
        assert_eq!(message["cursor"].as_str().unwrap().len(), 28);
        assert!(message.get("ciphertext").is_none() && message.get("group_id").is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ciphertext_arrives_as_it_was_sent_and_is_not_shown_in_the_inbox() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        alice.send(&json!({"type": "send", "receiver_id": 2, "message_id": message_id(), "ciphertext": "AAEC/+8="})).await?;
        alice.expect("sent").await?;
        let message = bob.expect("message").await?;
        assert_eq!(message["ciphertext"], "AAEC/+8=");
        assert!(message.get("content").is_none());
        bob.send(&json!({"type": "conversations"})).await?;
        let page = bob.expect("conversations").await?;
        assert!(page["conversations"][0]["last_message"].is_null(), "{page}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_missing_message_id_is_made_by_the_server() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let command = json!({"type": "send", "receiver_id": 2, "content": "x"});
        alice.send(&command).await?;
        let first = alice.expect("sent").await?;
        alice.send(&command).await?;
        let second = alice.expect("sent").await?;
        assert!(first["message_id"].is_string());
        assert_ne!(first["message_id"], second["message_id"]);
        assert_eq!((&first["seq"], &second["seq"]), (&json!(1), &json!(2)));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_duplicate_gets_the_first_seq_and_another_content_conflicts() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        // A version that carries no time costs a look-up, and dedupes all the same.
        for id in [message_id(), uuid::Uuid::new_v4().to_string()] {
            let first = alice.message(2, &id, "once").await?;
            let again = alice.message(2, &id, "once").await?;
            assert_eq!(
                (&first["duplicate"], &again["duplicate"]),
                (&json!(false), &json!(true))
            );
            assert_eq!(
                (&first["seq"], &first["timestamp"]),
                (&again["seq"], &again["timestamp"])
            );
            let other = alice.message(2, &id, "twice").await?;
            assert_eq!(
                (&other["type"], &other["code"]),
                (&json!("rejected"), &json!("conflict"))
            );
            assert_eq!((&other["id"], &other["message_id"]), (&json!(7), &json!(id)));
            // Another sender may use the same id.
            let bobs = bob.message(1, &id, "mine").await?;
            assert_eq!(bobs["duplicate"], false);
            bob.expect("message").await?;
            alice.expect("message").await?;
        }
        bob.quiet(Duration::from_millis(200)).await
    })
    .await
}

#[tokio::test]
async fn an_ack_tells_the_sender_delivered_and_stops_redelivery() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        let sent = alice.message(2, &message_id(), "x").await?;
        let message = bob.expect("message").await?;
        bob.ack(message["cursor"].as_str().unwrap()).await?;
        let update = alice.expect("status_update").await?;
        assert_eq!(
            (&update["status"], &update["user_id"]),
            (&json!("delivered"), &json!(2))
        );
        for field in ["conversation_id", "seq", "message_id"] {
            assert_eq!(update[field], sent[field], "{field}");
        }
        assert!(update.get("cursor").is_none());
        drop(bob);
        let (mut bob, _) = Client::hello(server.listen, 2, 1).await?;
        bob.expect("synced").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_ack_that_is_no_cursor_is_an_error_and_one_beyond_what_was_sent_is_ignored() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        bob.send(&json!({"type": "ack", "cursor": "nonsense", "id": 3}))
            .await?;
        let error = bob.expect("error").await?;
        assert_eq!((&error["code"], &error["id"]), (&json!("bad_request"), &json!(3)));
        alice.message(2, &message_id(), "x").await?;
        let message = bob.expect("message").await?;
        let cursor = message["cursor"].as_str().unwrap();
        bob.ack(&format!("{}{}", &cursor[..8], "f".repeat(20))).await?;
        bob.ack(&"f".repeat(28)).await?;
        alice.quiet(Duration::from_millis(200)).await?;
        bob.ack(cursor).await?;
        alice.expect("status_update").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn status_moves_watermarks_up_only_and_tells_the_sender_once() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        let mut ids = Vec::new();
        for number in 0..3 {
            let id = message_id();
            alice.message(2, &id, &format!("m{number}")).await?;
            bob.expect("message").await?;
            ids.push(id);
        }
        bob.send(&json!({"type": "status", "status": "delivered", "message_id": ids[0]}))
            .await?;
        let update = alice.expect("status_update").await?;
        assert_eq!(
            (&update["status"], &update["seq"]),
            (&json!("delivered"), &json!(1))
        );
        bob.send(&json!({"type": "status", "status": "read", "message_id": ids[2]}))
            .await?;
        let update = alice.expect("status_update").await?;
        assert_eq!(
            (&update["status"], &update["seq"], &update["message_id"]),
            (&json!("read"), &json!(3), &json!(ids[2]))
        );
        // Read implied delivered; lower and equal ones say nothing.
        for (status, id) in [("delivered", &ids[2]), ("read", &ids[1]), ("read", &ids[2])] {
            bob.send(&json!({"type": "status", "status": status, "message_id": id}))
                .await?;
        }
        alice.quiet(Duration::from_millis(300)).await?;
        let conversation = update["conversation_id"].clone();
        alice
            .send(&json!({"type": "history", "conversation_id": conversation}))
            .await?;
        let page = alice.expect("history").await?;
        assert_eq!(
            (&page["delivered_seq"], &page["read_seq"]),
            (&json!(3), &json!(3))
        );
        // By place, beyond the end: bounded by the last seq.
        alice.message(2, &message_id(), "m3").await?;
        bob.expect("message").await?;
        bob.send(&json!({"type": "status", "status": "read", "conversation_id": conversation, "seq": 99}))
            .await?;
        let update = alice.expect("status_update").await?;
        assert_eq!(update["seq"], 4);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn status_of_a_message_not_received_is_forbidden() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut eve = Client::live(server.listen, 666, 1).await?;
        let id = message_id();
        let sent = alice.message(2, &id, "x").await?;
        let conversation = &sent["conversation_id"];
        let foreign = [
            json!({"type": "status", "status": "read", "message_id": id, "id": 4}),
            json!({"type": "status", "status": "read", "message_id": message_id(), "id": 4}),
            json!({"type": "status", "status": "read", "conversation_id": conversation, "seq": 1, "id": 4}),
            json!({"type": "history", "conversation_id": conversation, "id": 4}),
            json!({"type": "history", "conversation_id": message_id(), "id": 4}),
        ];
        for command in foreign {
            eve.send(&command).await?;
            let error = eve.expect("error").await?;
            assert_eq!(
                (&error["code"], &error["id"]),
                (&json!("forbidden"), &json!(4)),
                "{command}"
            );
        }
        // Nor may the sender mark the own message.
        alice
            .send(&json!({"type": "status", "status": "read", "message_id": id}))
            .await?;
        assert_eq!(alice.expect("error").await?["code"], "forbidden");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn read_is_told_to_the_readers_other_devices() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut phone = Client::live(server.listen, 2, 1).await?;
        let mut laptop = Client::live(server.listen, 2, 2).await?;
        let id = message_id();
        alice.message(2, &id, "x").await?;
        phone.expect("message").await?;
        laptop.expect("message").await?;
        phone
            .send(&json!({"type": "status", "status": "read", "message_id": id}))
            .await?;
        assert_eq!(alice.expect("status_update").await?["status"], "read");
        let own = laptop.expect("status_update").await?;
        assert_eq!((&own["status"], &own["user_id"]), (&json!("read"), &json!(2)));
        phone.quiet(Duration::from_millis(200)).await
    })
    .await
}

#[tokio::test]
async fn history_pages_from_the_newest_and_contains_what_was_just_sent() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut sent = json!(null);
        for number in 1..=7 {
            sent = alice.message(2, &message_id(), &format!("m{number}")).await?;
        }
        // Sent and asked in one go: the page has it.
        let conversation = sent["conversation_id"].clone();
        alice.send(&send(2, &message_id(), "m8")).await?;
        alice
            .send(&json!({"type": "history", "conversation_id": conversation, "limit": 3, "id": 5}))
            .await?;
        alice.expect("sent").await?;
        let page = alice.expect("history").await?;
        assert_eq!(
            (&page["id"], &page["more"], &page["conversation_id"]),
            (&json!(5), &json!(true), &conversation)
        );
        let contents = |page: &serde_json::Value| -> Vec<String> {
            page["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| m["content"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(contents(&page), ["m8", "m7", "m6"]);
        assert!(page["messages"][0].get("cursor").is_none());
        alice
            .send(&json!({"type": "history", "conversation_id": conversation, "before_seq": 3}))
            .await?;
        let page = alice.expect("history").await?;
        assert_eq!(
            (contents(&page), &page["more"]),
            (vec!["m2".to_owned(), "m1".to_owned()], &json!(false))
        );
        for (field, value) in [
            ("limit", json!(0)),
            ("limit", json!(101)),
            ("before_seq", json!("x")),
        ] {
            let mut command = json!({"type": "history", "conversation_id": conversation});
            command[field] = value;
            alice.send(&command).await?;
            let error = alice.expect("error").await?;
            assert!(
                error["code"] == "bad_request" && error["reason"].as_str().unwrap().contains(field),
                "{error}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn conversations_are_newest_first_with_unread_counts_and_pages() -> Result<()> {
    on_both(async |server| {
        let mut bob = Client::live(server.listen, 2, 1).await?;
        for sender in [11_u64, 12, 13] {
            let mut client = Client::live(server.listen, sender, 1).await?;
            for number in 0..sender - 10 {
                client.message(2, &message_id(), &format!("from {sender}, {number}")).await?;
                let message = bob.expect("message").await?;
                bob.ack(message["cursor"].as_str().unwrap()).await?;
            }
            // Activity is ordered by milliseconds.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bob.send(&json!({"type": "conversations", "limit": 2, "id": 8})).await?;
        let page = bob.expect("conversations").await?;
        assert_eq!(page["id"], 8);
        let rows = page["conversations"].as_array().unwrap();
        assert_eq!((&rows[0]["other_user_id"], &rows[0]["unread_count"]), (&json!(13), &json!(3)));
        assert_eq!((&rows[1]["other_user_id"], &rows[1]["unread_count"]), (&json!(12), &json!(2)));
        assert_eq!(rows[0]["last_message"], "from 13, 2");
        assert_eq!(rows[0]["last_seq"], 3);
        assert!(rows[0]["last_message_at"].is_u64() && rows[0]["delivered_seq"].is_u64() && rows[0]["read_seq"].is_u64());
        bob.send(&json!({"type": "conversations", "limit": 2, "before": page["next"]})).await?;
        let last = bob.expect("conversations").await?;
        assert_eq!(last["conversations"].as_array().unwrap().len(), 1);
        assert!(last.get("next").is_none_or(serde_json::Value::is_null));
        // Reading and answering both clear the count.
        bob.send(&json!({"type": "status", "status": "read", "conversation_id": rows[0]["conversation_id"], "seq": 2})).await?;
        bob.message(12, &message_id(), "answer").await?;
        bob.send(&json!({"type": "conversations"})).await?;
        let page = bob.expect("conversations").await?;
        let unread = |peer: u64| {
            let rows = page["conversations"].as_array().unwrap();
            rows.iter().find(|row| row["other_user_id"] == peer).unwrap()["unread_count"].clone()
        };
        assert_eq!((unread(13), unread(12), unread(11)), (json!(1), json!(0), json!(1)));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ping_is_answered_by_pong() -> Result<()> {
    on_both(async |server| {
        let mut client = Client::live(server.listen, 1, 1).await?;
        client.send(&json!({"type": "ping", "id": 4})).await?;
        let pong = client.expect("pong").await?;
        assert!(pong["id"] == 4 && pong["server_time_ms"].is_u64(), "{pong}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_batch_runs_in_order_each_command_answered_alone() -> Result<()> {
    on_both(async |server| {
        let mut client = Client::live(server.listen, 1, 1).await?;
        let commands = json!([
            {"type": "send", "receiver_id": 2, "message_id": message_id(), "content": "a", "id": 1},
            {"type": "send", "receiver_id": 2, "message_id": message_id(), "content": "", "id": 2},
            {"type": "hello", "user_id": 1, "id": 3},
            {"type": "send", "receiver_id": 2, "message_id": message_id(), "content": "b", "id": 4},
            {"type": "ping", "id": 5},
        ]);
        client
            .send(&json!({"type": "batch", "messages": commands}))
            .await?;
        let mut answers = Vec::new();
        for _ in 0..5 {
            let event = client.event().await?;
            answers.push((
                event["id"].as_u64().unwrap(),
                event["type"].as_str().unwrap().to_owned(),
                event["seq"].clone(),
            ));
        }
        answers.sort_by_key(|answer| answer.0);
        let kinds: Vec<&str> = answers.iter().map(|(_, kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["sent", "rejected", "error", "sent", "pong"]);
        assert_eq!((&answers[0].2, &answers[3].2), (&json!(1), &json!(2)));
        let many = vec![json!({"type": "ping"}); 101];
        client
            .send(&json!({"type": "batch", "messages": many, "id": 6}))
            .await?;
        let error = client.expect("error").await?;
        assert_eq!((&error["code"], &error["id"]), (&json!("bad_request"), &json!(6)));
        client.quiet(Duration::from_millis(200)).await
    })
    .await
}

#[tokio::test]
async fn commands_of_later_versions_say_so() -> Result<()> {
    on_both(async |server| {
        let mut client = Client::live(server.listen, 1, 1).await?;
        let group = message_id();
        for command in [
            json!({"type": "typing", "receiver_id": 2, "state": "start", "id": 1}),
            json!({"type": "presence", "user_ids": [2], "id": 1}),
            json!({"type": "send", "group_id": group, "content": "x", "id": 1}),
        ] {
            client.send(&command).await?;
            let answer = client.event().await?;
            assert_eq!(
                (&answer["code"], &answer["id"]),
                (&json!("bad_request"), &json!(1)),
                "{command}"
            );
            assert!(
                answer["reason"].as_str().unwrap().contains("not supported"),
                "{answer}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn commands_right_behind_hello_wait_for_welcome() -> Result<()> {
    on_both(async |server| {
        let mut client = Client::connect(server.listen).await?;
        client.send(&json!({"type": "hello", "user_id": 1})).await?;
        client.send(&send(2, &message_id(), "early")).await?;
        client.send(&json!({"type": "ping"})).await?;
        client.expect("welcome").await?;
        let mut kinds = Vec::new();
        for _ in 0..3 {
            kinds.push(client.event().await?["type"].as_str().unwrap().to_owned());
        }
        kinds.sort();
        assert_eq!(kinds, ["pong", "sent", "synced"]);
        Ok(())
    })
    .await
}
