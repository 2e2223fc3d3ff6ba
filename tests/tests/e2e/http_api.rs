//! The HTTP API of docs/protocol.md section 10.

use anyhow::Result;
use serde_json::json;
use tidegate_tests::{Client, http};

use crate::{message_id, on_both};

#[tokio::test]
async fn a_message_sent_over_http_reaches_both_users_and_repeats_as_the_first_answer() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        let id = message_id();
        let body = json!({"sender_id": 1, "receiver_id": 2, "content": "over http", "message_id": id});
        let answer = http::post(server.api, "/messages/send", None, &body)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let sent = answer.json()?;
        assert_eq!(
            (&sent["message_id"], &sent["seq"], &sent["status"]),
            (&json!(id), &json!(1), &json!("sent"))
        );
        let message = bob.expect("message").await?;
        assert_eq!(
            (&message["content"], &message["sender_device"]),
            (&json!("over http"), &json!(0))
        );
        // Every device of the sender gets the echo: none of them sent it.
        assert_eq!(alice.expect("message").await?["message_id"], id.as_str());
        let again = http::post(server.api, "/messages/send", None, &body)?;
        assert_eq!((again.status, again.json()?["seq"].clone()), (200, json!(1)));
        let mut other = body.clone();
        other["content"] = "something else".into();
        assert_eq!(
            http::post(server.api, "/messages/send", None, &other)?.status,
            409
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn bad_requests_are_problems_that_name_the_field() -> Result<()> {
    on_both(async |server| {
        let good = json!({"sender_id": 1, "receiver_id": 2, "content": "x"});
        for (field, value) in [
            ("content", json!("x".repeat(10_001))),
            ("content", json!("")),
            ("content", json!(7)),
            ("receiver_id", json!(0)),
            ("sender_id", json!("1")),
            ("message_id", json!("nil")),
            ("media_url", json!("u".repeat(2_049))),
        ] {
            let mut body = good.clone();
            body[field] = value;
            let answer = http::post(server.api, "/messages/send", None, &body)?;
            assert_eq!(
                (answer.status, answer.content_type.as_str()),
                (400, "application/problem+json"),
                "{field}: {answer:?}"
            );
            let problem = answer.json()?;
            assert_eq!(problem["status"], 400);
            assert!(problem["title"].is_string() && problem["type"].is_string());
            assert!(
                problem["detail"].as_str().unwrap().contains(field),
                "{field}: {problem}"
            );
        }
        for (path, status) in [
            ("/nothing", 404),
            ("/messages/send", 405),
            ("/conversations", 400),
            ("/conversations?user_id=0", 400),
            ("/conversations?user_id=1&limit=101", 400),
            ("/conversations/nonsense/messages?user_id=1", 400),
        ] {
            let answer = http::get(server.api, path, None)?;
            assert_eq!(
                (answer.status, answer.content_type.as_str()),
                (status, "application/problem+json"),
                "{path}: {answer:?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn status_inbox_and_history_say_the_same_as_the_websocket() -> Result<()> {
    on_both(async |server| {
        let mut alice = Client::live(server.listen, 1, 1).await?;
        let mut bob = Client::live(server.listen, 2, 1).await?;
        let id = message_id();
        let sent = alice.message(2, &id, "first").await?;
        alice.message(2, &message_id(), "second").await?;
        let status = json!({"user_id": 2, "status": "read"});
        let answer = http::post(server.api, &format!("/messages/{id}/status"), None, &status)?;
        assert_eq!((answer.status, answer.json()?), (200, json!({"status": "ok"})));
        assert_eq!(alice.expect("status_update").await?["seq"], 1);
        let unknown = http::post(
            server.api,
            &format!("/messages/{}/status", message_id()),
            None,
            &status,
        )?;
        assert_eq!(unknown.status, 404);
        let by_sender = http::post(
            server.api,
            &format!("/messages/{id}/status"),
            None,
            &json!({"user_id": 1, "status": "read"}),
        )?;
        assert_eq!(
            by_sender.status, 404,
            "it regards only messages that the user received"
        );
        let bad = http::post(
            server.api,
            &format!("/messages/{id}/status"),
            None,
            &json!({"user_id": 2, "status": "eaten"}),
        )?;
        assert_eq!(bad.status, 400);

        bob.send(&json!({"type": "conversations"})).await?;
        let events = bob.until("conversations").await?;
        let inbox = http::get(server.api, "/conversations?user_id=2", None)?.json()?;
        assert_eq!(inbox["conversations"], events.last().unwrap()["conversations"]);
        assert_eq!(inbox["conversations"][0]["unread_count"], 1);

        let conversation = sent["conversation_id"].as_str().unwrap();
        bob.send(&json!({"type": "history", "conversation_id": conversation}))
            .await?;
        let events = bob.until("history").await?;
        let page = http::get(
            server.api,
            &format!("/conversations/{conversation}/messages?user_id=2"),
            None,
        )?
        .json()?;
        assert_eq!(page["messages"], events.last().unwrap()["messages"]);
        assert_eq!(
            (&page["more"], page["messages"].as_array().unwrap().len()),
            (&json!(false), 2)
        );
        let page = http::get(
            server.api,
            &format!("/conversations/{conversation}/messages?user_id=2&before_seq=2&limit=1"),
            None,
        )?;
        assert_eq!(page.json()?["messages"][0]["content"], "first");
        let foreign = http::get(
            server.api,
            &format!("/conversations/{conversation}/messages?user_id=3"),
            None,
        )?;
        assert_eq!(foreign.status, 403);
        Ok(())
    })
    .await
}
