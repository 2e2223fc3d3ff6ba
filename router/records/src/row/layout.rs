//! Byte layout of a field that only rows have.

use wire_base::codec::{DecodeError, Fault, Layout, Reader, layout};

use super::{Members, Pair};

layout!(
    Pair { low, high, low_sent, high_sent }
    check "members" |pair| pair.low <= pair.high
);

/// A member form byte, then its fields.
impl Layout for Members {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Direct(pair) => {
                out.push(MEMBERS_DIRECT);
                pair.write(out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.field("members")? {
            MEMBERS_DIRECT => Ok(Self::Direct(input.field("members")?)),
            unknown => Err(DecodeError::new("members", Fault::UnknownKind(unknown))),
        }
    }
}

const MEMBERS_DIRECT: u8 = 1;
