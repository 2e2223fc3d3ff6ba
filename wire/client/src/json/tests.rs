use super::*;

mod commands;
mod events;

#[test]
fn joined_objects_are_a_batch_of_the_size_foretold() {
    for count in 0..4 {
        let mut frame = BATCH_OPEN.to_vec();
        for index in 0..count {
            if index > 0 {
                frame.extend_from_slice(BATCH_SEPARATOR);
            }
            frame.extend_from_slice(br#"{"type":"ping"}"#);
        }
        frame.extend_from_slice(BATCH_CLOSE);
        assert_eq!(frame.len(), batch_bytes(count, count * 15));
        let mut commands = 0;
        let kind = parse_frame(std::str::from_utf8(&frame).unwrap(), &mut |command| {
            assert!(command.is_ok());
            commands += 1;
        });
        assert_eq!((kind, commands), (FrameKind::Batch, count));
    }
}
