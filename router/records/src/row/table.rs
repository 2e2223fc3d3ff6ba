//! What the declaration of a table makes.
//!
//! A row has an owner and an order within it, which together are its key: rows of one owner lie together, in that order,
//! also where owners are spread over many machines. So a list of rows never leaves its owner.
//!
//! Bytes: the key is the table's byte, then the fields big-endian, so that keys sort as their fields do; the value is a
//! layout version, then the other fields.

use wire_base::codec::{DecodeError, Fault, Reader};
use wire_base::ids::{ConversationId, Offset, Seq};

use super::Row;
use super::key::KeyField;

/// A row of a table.
pub trait Table: Sized + Into<Row> {
    /// What rows that lie together have in common.
    type Owner: KeyField;
    /// In which order they lie.
    type Order: KeyField;
    /// The table.
    const INFO: TableInfo;

    /// Returns the row, if it is of this table.
    fn from_row(row: Row) -> Option<Self>;

    /// Decodes a row from what [`Row::encode`] made.
    ///
    /// Errors: as those of [`Row::decode`]; also a row of another table.
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let other = DecodeError::new("table", Fault::UnknownKind(*key.first().unwrap_or(&0)));
        Self::from_row(Row::decode(key, value)?).ok_or(other)
    }

    /// Returns the key of a row.
    fn encode_key(owner: Self::Owner, order: Self::Order) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + Self::Owner::BYTES + Self::Order::BYTES);
        key.push(Self::INFO.byte);
        owner.write_key(&mut key);
        order.write_key(&mut key);
        key
    }

    /// Returns what the keys of an owner's rows begin with.
    fn encode_owner(owner: Self::Owner) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + Self::Owner::BYTES);
        key.push(Self::INFO.byte);
        owner.write_key(&mut key);
        key
    }
}

/// A table, whatever its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// The first byte of its keys.
    pub byte: u8,
    /// What one of its rows is called.
    pub row_name: &'static str,
    /// What they are called together.
    pub name: &'static str,
    /// How many bytes of a key name table and owner.
    pub owner_bytes: usize,
    /// How long its rows are kept.
    pub kept: Kept,
}

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// As long as the store.
    Stays,
    /// Until the record that made it is past retention.
    Expires,
    /// Until then, and the newest of an owner until another one replaces it.
    ExpiresButTheNewest,
    /// As retention itself needs it.
    Apart,
}

/// What a row says about the rest of the store, for a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The newest record that changed it: the store holds everything up to there.
    pub offset: Option<Offset>,
    /// A message of that record.
    pub message: Option<(ConversationId, Seq)>,
    /// The rows of an owner count up by one in this.
    pub number: Option<u64>,
    /// The record of the owner's row before it, as long as that is kept.
    pub previous: Option<Offset>,
    /// What is wrong within the row.
    pub fault: Option<&'static str>,
}

/// Reads a field of a key; a fault is reported under this name.
pub(super) fn key_field<F: KeyField>(key: &mut Reader<'_>, name: &'static str) -> Result<F, DecodeError> {
    F::read_key(key).map_err(|error| DecodeError { field: name, ..error })
}

/// Raised when the fields of any value change.
pub(super) const VERSION: u8 = 2;

/// Declares the tables and [`Row`], the row of any of them.
macro_rules! tables {
    ($(
        $(#[$meta:meta])*
        $variant:ident($row:ident) = $byte:literal, $row_name:literal, $name:literal, $kept:ident {
            owner { $($(#[$owner_meta:meta])* $owner:ident: $owner_type:ty,)* }
            order { $($(#[$order_meta:meta])* $order:ident: $order_type:ty,)* }
            value { $($(#[$field_meta:meta])* $field:ident: $field_type:ty,)* }
            $(shape: $shape_row:ident { $($shape:tt)* };)?
            $(bytes: $bytes:expr;)?
            claims: $claims:expr;
        }
    )+) => {
        /// A row as the folds write it: key and value together. Rewriting a row after a crash gives the identical row.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Row {
            $(
                #[doc = concat!("See [`", stringify!($row), "`].")]
                $variant($row),
            )+
        }

        impl Row {
            /// Every table.
            pub const TABLES: &[TableInfo] = &[$(<$row as Table>::INFO),+];

            /// Returns the table it is of.
            pub fn table(&self) -> &'static TableInfo {
                match self {
                    $(Self::$variant(_) => &<$row as Table>::INFO,)+
                }
            }

            /// Returns key and value.
            pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
                (self.encode_key(), self.encode_value())
            }

            /// Returns the key.
            pub fn encode_key(&self) -> Vec<u8> {
                match self {
                    $(
                        #[allow(unused_variables, reason = "the key is made of some of the fields")]
                        Self::$variant(table::shape!($row ($($owner)* $($order)* $($field)*) $($($shape)*)?)) => {
                            <$row>::encode_key(($(*$owner),*), ($(*$order),*))
                        }
                    )+
                }
            }

            fn encode_value(&self) -> Vec<u8> {
                let mut value = vec![table::VERSION];
                match self {
                    $(
                        #[allow(unused_variables, reason = "the value is made of some of the fields")]
                        Self::$variant(table::shape!($row ($($owner)* $($order)* $($field)*) $($($shape)*)?)) => {
                            $(wire_base::codec::Layout::write($field, &mut value);)*
                        }
                    )+
                }
                value
            }

            /// Decodes a row from what [`Row::encode`] made.
            ///
            /// Errors: names the field. The store checks its bytes itself, so another version wrote them: refuse to start or
            /// to answer.
            pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, wire_base::codec::DecodeError> {
                use wire_base::codec::{DecodeError, Fault, Reader};
                let (mut key, mut value) = (Reader::borrowed(key), Reader::borrowed(value));
                let table: u8 = key.field("table")?;
                let version = value.field("row version")?;
                if version != table::VERSION {
                    return Err(DecodeError::new("row version", Fault::UnknownVersion(version)));
                }
                let row = match table {
                    $($byte => {
                        $(let $owner: $owner_type = table::key_field(&mut key, stringify!($owner))?;)*
                        $(let $order: $order_type = table::key_field(&mut key, stringify!($order))?;)*
                        $(let $field: $field_type = value.field(stringify!($field))?;)*
                        Self::$variant(table::shape!($row ($($owner)* $($order)* $($field)*) $($($shape)*)?))
                    })+
                    unknown => return Err(DecodeError::new("table", Fault::UnknownKind(unknown))),
                };
                key.finish("row key")?;
                value.finish("row value")?;
                Ok(row)
            }

            /// Returns how much of it counts toward the bytes of a page, or holds a link batch in memory: its body.
            pub fn body_bytes(&self) -> usize {
                match self {
                    $($(Self::$variant(row) => {
                        let bytes: fn(&$row) -> usize = $bytes;
                        bytes(row)
                    })?)+
                    _ => 0,
                }
            }

            /// Returns what it says about the rest of the store.
            pub fn claims(&self) -> Claims {
                match self {
                    $(Self::$variant(row) => {
                        let claims: fn(&$row) -> Claims = $claims;
                        claims(row)
                    })+
                }
            }
        }

        $(
            table::row_struct! {
                ($($shape_row)?)
                $(#[$meta])*
                pub struct $row {
                    $($(#[$owner_meta])* pub $owner: $owner_type,)*
                    $($(#[$order_meta])* pub $order: $order_type,)*
                    $($(#[$field_meta])* pub $field: $field_type,)*
                }
            }

            #[allow(unused_parens, reason = "one field is its own type, several are a tuple")]
            impl Table for $row {
                type Owner = ($($owner_type),*);
                type Order = ($($order_type),*);
                const INFO: TableInfo = TableInfo {
                    byte: $byte,
                    row_name: $row_name,
                    name: $name,
                    owner_bytes: 1 + <Self::Owner as KeyField>::BYTES,
                    kept: Kept::$kept,
                };

                fn from_row(row: Row) -> Option<Self> {
                    match row {
                        Row::$variant(row) => Some(row),
                        _ => None,
                    }
                }
            }

            impl From<$row> for Row {
                fn from(row: $row) -> Self {
                    Self::$variant(row)
                }
            }
        )+
    };
}

/// Makes the struct of a row, unless it has another shape than its table.
macro_rules! row_struct {
    (() $struct:item) => {
        $struct
    };
    (($row:ident) $struct:item) => {};
}
pub(super) use row_struct;

/// A row of the fields of its table, as an expression and as a pattern.
macro_rules! shape {
    ($row:ident ($($field:ident)*)) => { $row { $($field),* } };
    ($row:ident ($($field:ident)*) $($shape:tt)+) => { $row { $($shape)+ } };
}
pub(super) use shape;
