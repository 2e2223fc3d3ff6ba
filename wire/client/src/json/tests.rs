use super::*;
use crate::Format;

mod commands;
mod events;

/// Joins objects to a batch, of the size foretold.
fn batch(objects: &[&str]) -> String {
    let format = Format::Json;
    let mut frame = Vec::new();
    format.begin_batch(&mut frame);
    for (index, object) in objects.iter().enumerate() {
        format.begin_event(index, &mut frame);
        frame.extend_from_slice(object.as_bytes());
    }
    format.end_batch(&mut frame);
    if !objects.is_empty() {
        let bytes = objects
            .iter()
            .map(|object| format.bytes_in_batch(object.len()))
            .sum();
        assert_eq!(frame.len(), format.batch_bytes(bytes));
    }
    String::from_utf8(frame).unwrap()
}

#[test]
fn joined_objects_are_a_batch() {
    for count in 0..4 {
        let mut commands = 0;
        let kind = parse_frame(&batch(&vec![r#"{"type":"ping"}"#; count]), &mut |command| {
            assert!(command.is_ok());
            commands += 1;
        });
        assert_eq!((kind, commands), (FrameKind::Batch, count));
    }
}
