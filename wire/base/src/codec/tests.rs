use std::fmt::Debug;

use super::*;

fn bytes<T: Layout>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

fn read<T: Layout>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut input = Reader::borrowed(bytes);
    let value = input.field("value")?;
    input.finish("value")?;
    Ok(value)
}

fn refused<T: Layout + Debug>(bytes: &[u8]) -> Fault {
    read::<T>(bytes).unwrap_err().fault
}

#[test]
fn numbers_are_little_endian_and_of_fixed_width() {
    assert_eq!(bytes(&0x0102_0304_0506_0708_u64), [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes(&Seq(1)), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(&Some(3u16)), [1, 3, 0]);
    assert_eq!(bytes(&None::<u16>), [0]);
    assert_eq!(bytes(&vec![1u8, 2]), [2, 0, 0, 0, 1, 2]);
    assert_eq!(bytes(&"hé".to_owned()), [3, 0, b'h', 0xc3, 0xa9]);
}

#[test]
fn a_value_outside_its_bounds_is_refused() {
    assert_eq!(refused::<bool>(&[2]), Fault::OutOfBounds);
    assert_eq!(refused::<Option<u8>>(&[2, 0]), Fault::OutOfBounds);
    assert_eq!(refused::<UserId>(&[0; 8]), Fault::OutOfBounds);
    assert_eq!(refused::<UserId>(&(1u64 << 53).to_le_bytes()), Fault::OutOfBounds);
    assert_eq!(refused::<DeviceId>(&[0, 0, 0, 0x80]), Fault::OutOfBounds);
    assert_eq!(refused::<MessageId>(&[0; 16]), Fault::OutOfBounds);
    assert_eq!(refused::<ConversationId>(&[0; 16]), Fault::OutOfBounds);
    assert_eq!(refused::<Status>(&[0]), Fault::OutOfBounds);
    assert_eq!(refused::<Status>(&[3]), Fault::OutOfBounds);
    assert_eq!(refused::<Code>(&[0]), Fault::OutOfBounds);
    assert_eq!(refused::<Code>(&[11]), Fault::OutOfBounds);
    assert_eq!(refused::<String>(&1_025u16.to_le_bytes()), Fault::OutOfBounds);
    assert_eq!(refused::<String>(&[1, 0, 0xff]), Fault::NotUtf8);
    assert_eq!(refused::<u16>(&[1]), Fault::CutShort);
    assert_eq!(refused::<u16>(&[1, 2, 3]), Fault::LeftOver);
}

#[test]
fn a_target_is_a_kind_and_an_id_and_another_kind_is_refused() {
    let user = UserId::new(7).unwrap();
    assert_eq!(bytes(&Target::Direct(user)), [1, 7, 0, 0, 0, 0, 0, 0, 0]);
    let group = ConversationId::new(uuid::Uuid::from_u128(9)).unwrap();
    let mut expected = vec![2; 17];
    expected[1..].copy_from_slice(group.get().as_bytes());
    assert_eq!(bytes(&Target::Group(group)), expected);
    for kind in [0, 3] {
        let refused = read::<Target>(&[kind, 7, 0, 0, 0, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(refused.to_string(), format!("target kind: unknown kind {kind}"));
    }
}

#[test]
fn every_code_and_status_keeps_its_byte_and_its_word() {
    for (index, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(code as usize, index + 1);
        assert_eq!(Code::from_byte(code as u8), Some(code));
        assert_eq!(Code::from_name(code.name()), Some(code));
    }
    for status in [Status::Delivered, Status::Read] {
        assert_eq!(Status::from_byte(status as u8), Some(status));
        assert_eq!(Status::from_name(status.name()), Some(status));
    }
}

#[test]
fn a_count_alone_allocates_nothing() {
    // 4 Gi items of 16 bytes would be 64 GiB.
    assert_eq!(refused::<Vec<u128>>(&[0xff; 4 + 15]), Fault::CutShort);
}

#[test]
fn long_text_is_cut_at_a_character() {
    let long = "é".repeat(1_000);
    let read: String = read(&bytes(&long)).unwrap();
    assert_eq!(read, "é".repeat(TEXT_BYTES_MAX / 2));
    let odd = format!("x{long}");
    let read: String = self::read(&bytes(&odd)).unwrap();
    assert_eq!(read.len(), TEXT_BYTES_MAX - 1);
    assert!(odd.starts_with(&read));
}

#[test]
fn a_fault_is_reported_under_the_innermost_name() {
    #[derive(Debug, PartialEq)]
    struct Pair {
        low: u8,
        high: u8,
    }
    layout!(Pair { low, high } check "pair" |pair| pair.low <= pair.high);
    assert_eq!(read::<Pair>(&[1, 2]), Ok(Pair { low: 1, high: 2 }));
    assert_eq!(read::<Pair>(&[1]), Err(DecodeError::new("high", Fault::CutShort)));
    assert_eq!(
        read::<Pair>(&[2, 1]),
        Err(DecodeError::new("pair", Fault::OutOfBounds))
    );
    assert_eq!(
        read::<Pair>(&[2, 1]).unwrap_err().to_string(),
        "pair: out of bounds"
    );
}
