//! The reader and the encoder against each other, the RFC's samples and the table of faults.

mod memory;
mod rules;
mod samples;
mod streams;
mod text;

use super::*;

/// An item that outlives its input.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// Everything a stream said, and the violation that ended it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    items: Vec<Heard>,
    violation: Option<Violation>,
}

/// Reads a stream of which one chunk is received at a time.
fn read<'c>(rules: &Rules, chunks: impl IntoIterator<Item = &'c [u8]>) -> Outcome {
    let mut reader = Reader::new();
    let mut outcome = Outcome::default();
    for chunk in chunks {
        if !read_chunk(&mut reader, rules, chunk, &mut outcome) {
            break;
        }
    }
    outcome
}

/// Reads one chunk; `false` when the stream is over.
fn read_chunk(reader: &mut Reader, rules: &Rules, chunk: &[u8], outcome: &mut Outcome) -> bool {
    let mut received = chunk.to_vec();
    let mut input = Input::new(&mut received);
    loop {
        match reader.next(&mut input, rules) {
            Ok(None) => {
                assert!(input.rest().is_empty(), "all input is consumed");
                return true;
            }
            Ok(Some(item)) => outcome.items.push(Heard::of(item)),
            Err(violation) => outcome.violation = Some(violation),
        }
        if outcome.violation.is_some() || matches!(outcome.items.last(), Some(Heard::Close(_))) {
            assert!(
                input.rest().is_empty() && !reader.is_partial(),
                "nothing is kept behind the end"
            );
            assert_eq!(
                reader.next(&mut input, rules),
                Ok(None),
                "nothing is parsed behind the end"
            );
            return false;
        }
    }
}

fn read_at_once(rules: &Rules, stream: &[u8]) -> Outcome {
    read(rules, [stream])
}

fn read_byte_by_byte(rules: &Rules, stream: &[u8]) -> Outcome {
    read(rules, stream.chunks(1))
}

impl Heard {
    fn of(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Self::Text(text.to_owned()),
            Item::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Item::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Item::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Item::Close(frame) => Self::Close(frame.map(|frame| (frame.code, frame.reason.to_owned()))),
        }
    }

    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Returns one masked frame, whatever it claims: `first` is FIN, RSV and opcode.
fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    encode_header(&mut header, true, Opcode::Binary, payload.len(), Some(KEY));
    header[0] = first;
    let mut payload = payload.to_vec();
    mask(&mut payload, KEY, 0);
    [header, payload].concat()
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
