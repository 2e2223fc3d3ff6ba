//! What is written in a run: every text once, and what it takes on the wire.

use wire_base::body::{Body, Content, EncodedBody};
use wire_base::message::Message;

use crate::rng::Rng;

/// Writes something that nobody wrote before in this run; `long_percent` of it is long.
pub(crate) fn write(number: u64, long_percent: u64, rng: &mut Rng) -> EncodedBody {
    let length = match rng.within(0..100) {
        dice if dice < long_percent => rng.within(2_000..4_900),
        90.. => rng.within(60..2_000),
        _ => rng.within(0..60),
    };
    let filling = rng.pick(&["x", "y ", "\"", "ü", "\n"]);
    let text = format!("{number} {}", filling.repeat(length as usize));
    let media_url = rng.percent(5).then_some("https://media.example/1");
    let kind = rng.percent(5).then_some("image");
    let content = if rng.percent(10) {
        Content::Ciphertext(text.as_bytes())
    } else {
        Content::Text(&text)
    };
    Body {
        content,
        media_url,
        kind,
    }
    .encode()
}

/// Returns what a message takes of a window: its fields as JSON strings.
pub(crate) fn wire_bytes(message: &Message) -> usize {
    let body = message.body.decode();
    let content = match body.content {
        Content::Text(text) => quoted(text),
        Content::Ciphertext(bytes) => bytes.len().div_ceil(3) * 4,
    };
    content + body.media_url.map_or(0, quoted) + body.kind.map_or(0, quoted)
}

fn quoted(text: &str) -> usize {
    text.chars()
        .map(|char| match char {
            '"' | '\\' => 2,
            '\0'..' ' => 2, // A newline is `\n`; rarer ones take more, and are not written here.
            _ => char.len_utf8(),
        })
        .sum()
}
