//! Any conversation, cut anywhere, decodes to the same items.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A message or control frame, and how the sender frames it.
#[derive(Clone, Debug)]
struct Sent {
    item: Heard,
    /// Where a message is cut into fragments.
    cuts: Vec<Index>,
    /// Control frames between the fragments, in order of their place.
    between: Vec<(Index, Heard)>,
}

impl Sent {
    /// Encodes; also appends to `expected` what a receiver hears.
    fn encode(&self, key: Option<[u8; 4]>, out: &mut Vec<u8>, expected: &mut Vec<Heard>) {
        let (opcode, payload) = parts(&self.item);
        if opcode.is_control() {
            encode_frame(out, opcode, &payload, key);
            expected.push(self.item.clone());
            return;
        }
        let mut ends: Vec<usize> = self.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(payload.len());
        let mut from = 0;
        for (i, &to) in ends.iter().enumerate() {
            let opcode = if i == 0 { opcode } else { Opcode::Continuation };
            encode_fragment(out, i + 1 == ends.len(), opcode, &payload[from..to], key);
            from = to;
            for (place, control) in &self.between {
                if i + 1 < ends.len() && place.index(ends.len() - 1) == i {
                    let (opcode, payload) = parts(control);
                    encode_frame(out, opcode, &payload, key);
                    expected.push(control.clone());
                }
            }
        }
        expected.push(self.item.clone());
    }
}

fn parts(item: &Heard) -> (Opcode, Vec<u8>) {
    match item {
        Heard::Text(text) => (Opcode::Text, text.as_bytes().to_vec()),
        Heard::Binary(bytes) => (Opcode::Binary, bytes.clone()),
        Heard::Ping(bytes) => (Opcode::Ping, bytes.clone()),
        Heard::Pong(bytes) => (Opcode::Pong, bytes.clone()),
        Heard::Close(frame) => {
            let payload = frame
                .as_ref()
                .map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat());
            (Opcode::Close, payload.unwrap_or_default())
        }
    }
}

/// A stream, what it says, and the side that reads it.
#[derive(Clone, Debug)]
struct Stream {
    role: Role,
    bytes: Vec<u8>,
    expected: Vec<Heard>,
}

impl Stream {
    fn rules(&self) -> Rules {
        Rules {
            role: self.role,
            ..Rules::server()
        }
    }
}

fn streams() -> impl Strategy<Value = Stream> {
    let sequence = prop::collection::vec(sent(), 0..6);
    (
        sequence,
        prop::option::of(any::<[u8; 4]>()),
        prop::option::of(close()),
    )
        .prop_map(|(mut sequence, key, close)| {
            sequence.extend(close);
            let role = if key.is_some() { Role::Server } else { Role::Client };
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            sequence
                .iter()
                .for_each(|sent| sent.encode(key, &mut bytes, &mut expected));
            Stream {
                role,
                bytes,
                expected,
            }
        })
}

fn sent() -> impl Strategy<Value = Sent> {
    let cuts = prop::collection::vec(any::<Index>(), 0..4);
    let between = prop::collection::vec((any::<Index>(), control()), 0..3);
    (prop_oneof![3 => message(), 1 => control()], cuts, between).prop_map(|(item, cuts, between)| Sent {
        item,
        cuts,
        between,
    })
}

fn message() -> impl Strategy<Value = Heard> {
    prop_oneof![
        any::<String>().prop_map(Heard::Text),
        "[ -~]{120,135}".prop_map(Heard::Text),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Heard::Binary),
    ]
}

fn control() -> impl Strategy<Value = Heard> {
    let payload = prop::collection::vec(any::<u8>(), 0..=125);
    (payload, any::<bool>()).prop_map(|(bytes, ping)| {
        if ping {
            Heard::Ping(bytes)
        } else {
            Heard::Pong(bytes)
        }
    })
}

fn close() -> impl Strategy<Value = Sent> {
    let frame = (
        prop_oneof![1000..=1003_u16, 1007..=1014_u16, 3000..=4999_u16],
        "[a-zé€]{0,30}",
    );
    prop::option::of(frame).prop_map(|frame| Sent {
        item: Heard::Close(frame),
        cuts: vec![],
        between: vec![],
    })
}

fn pieces<'s>(stream: &'s [u8], cuts: &[Index]) -> Vec<&'s [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([stream.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts.zip(ends).map(|(from, to)| &stream[from..to]).collect()
}

proptest! {
    #[test]
    fn a_conversation_is_heard_the_same_cut_at_every_byte(stream in streams()) {
        let rules = stream.rules();
        let expected = Outcome { items: stream.expected.clone(), violation: None };
        for cut in 0..=stream.bytes.len() {
            let (head, tail) = stream.bytes.split_at(cut);
            prop_assert_eq!(&read(&rules, [head, tail]), &expected, "cut at {}", cut);
        }
        prop_assert_eq!(&read_byte_by_byte(&rules, &stream.bytes), &expected);
    }

    #[test]
    fn a_conversation_is_heard_the_same_at_random_cuts(
        stream in streams(),
        cuts in prop::collection::vec(any::<Index>(), 0..40),
    ) {
        let outcome = read(&stream.rules(), pieces(&stream.bytes, &cuts));
        prop_assert_eq!(outcome, Outcome { items: stream.expected.clone(), violation: None });
    }

    #[test]
    fn a_damaged_conversation_gets_one_verdict_however_it_is_cut(
        mut stream in streams(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        for (at, byte) in damage {
            if !stream.bytes.is_empty() {
                let at = at.index(stream.bytes.len());
                stream.bytes[at] = byte;
            }
        }
        let rules = Rules { fragments_max: 3, message_bytes_max: 150, ..stream.rules() };
        let whole = read_at_once(&rules, &stream.bytes);
        prop_assert_eq!(&read(&rules, pieces(&stream.bytes, &cuts)), &whole);
        prop_assert_eq!(&read_byte_by_byte(&rules, &stream.bytes), &whole);
    }

    #[test]
    fn an_idle_reader_holds_nothing(stream in streams()) {
        for cut in 0..=stream.bytes.len() {
            let (head, tail) = stream.bytes.split_at(cut);
            let mut reader = Reader::new();
            let mut outcome = Outcome::default();
            if read_chunk(&mut reader, &stream.rules(), head, &mut outcome) {
                read_chunk(&mut reader, &stream.rules(), tail, &mut outcome);
            }
            prop_assert!(!reader.is_partial(), "cut at {}", cut);
            prop_assert_eq!(reader.partial_bytes(), 0);
        }
    }
}
