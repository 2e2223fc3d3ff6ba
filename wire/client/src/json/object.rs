//! The fields of a JSON object: first found, each as its own piece of text, then parsed one by one.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use wire_base::body::BodyError;
use wire_base::code::Code;
use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UserId};

/// A field that is not what it should be; the reason starts with its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadField {
    pub(super) code: Code,
    pub(super) reason: String,
}

impl BadField {
    pub(super) fn bad_request(name: &str, why: impl fmt::Display) -> Self {
        Self {
            code: Code::BadRequest,
            reason: format!("{name}: {why}"),
        }
    }
}

impl From<BodyError> for BadField {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::Empty(_) => Code::BadRequest,
            BodyError::TooLong { .. } => Code::TooLong,
        };
        Self {
            code,
            reason: error.to_string(),
        }
    }
}

/// One field by its name: absent, or a piece of valid JSON text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) raw: Option<&'a RawValue>,
}

impl<'a> Field<'a> {
    /// Returns the text of the value; `null` is an absent field.
    pub(super) fn json(self) -> Option<&'a str> {
        self.raw.map(RawValue::get).filter(|json| *json != "null")
    }

    /// Returns whether the value is this string, however it is escaped.
    pub(super) fn is(self, word: &str) -> bool {
        self.text().is_ok_and(|text| text.as_deref() == Some(word))
    }

    /// Parses a field that must be there, by one of the parsers below.
    pub(super) fn required<T>(
        self,
        parse: impl FnOnce(Self) -> Result<Option<T>, BadField>,
    ) -> Result<T, BadField> {
        parse(self)?.ok_or_else(|| self.bad("missing"))
    }

    pub(super) fn bad(self, why: impl fmt::Display) -> BadField {
        BadField::bad_request(self.name, why)
    }

    pub(super) fn integer(self, range: RangeInclusive<u64>) -> Result<Option<u64>, BadField> {
        let Some(json) = self.json() else { return Ok(None) };
        match json.parse() {
            Ok(value) if range.contains(&value) => Ok(Some(value)),
            _ => Err(self.bad(format_args!(
                "must be an integer from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    pub(super) fn boolean(self) -> Result<Option<bool>, BadField> {
        match self.json() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.bad("must be true or false")),
        }
    }

    /// Parses a string; it is borrowed unless it has escapes.
    pub(super) fn text(self) -> Result<Option<Cow<'a, str>>, BadField> {
        let Some(json) = self.json() else { return Ok(None) };
        let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Err(self.bad("must be a string"));
        };
        if !inner.as_bytes().contains(&b'\\') {
            return Ok(Some(Cow::Borrowed(inner)));
        }
        match serde_json::from_str(json) {
            Ok(text) => Ok(Some(Cow::Owned(text))),
            Err(_) => Err(self.bad("has an escape that is no Unicode character")),
        }
    }

    /// Parses a string whose characters need no escapes (a token); it is always borrowed.
    pub(super) fn plain_text(self) -> Result<Option<&'a str>, BadField> {
        match self.text()? {
            None => Ok(None),
            Some(Cow::Borrowed(text)) => Ok(Some(text)),
            Some(Cow::Owned(_)) => Err(self.bad("must not have JSON escapes")),
        }
    }

    pub(super) fn uuid(self) -> Result<Option<Uuid>, BadField> {
        let Some(text) = self.text()? else { return Ok(None) };
        let parsed = if text.len() == UUID_CHARS {
            Uuid::try_parse(&text).ok()
        } else {
            None
        };
        match parsed.filter(|uuid| !uuid.is_nil()) {
            Some(uuid) => Ok(Some(uuid)),
            None => Err(self.bad("must be a UUID with hyphens, and not nil")),
        }
    }

    pub(super) fn message_id(self) -> Result<Option<MessageId>, BadField> {
        Ok(self.uuid()?.and_then(MessageId::new))
    }

    pub(super) fn conversation_id(self) -> Result<Option<ConversationId>, BadField> {
        Ok(self.uuid()?.and_then(ConversationId::new))
    }

    pub(super) fn group_id(self) -> Result<Option<ConversationId>, BadField> {
        Ok(self.uuid()?.and_then(ConversationId::new))
    }

    pub(super) fn user_id(self) -> Result<Option<UserId>, BadField> {
        Ok(self.integer(1..=UserId::MAX)?.and_then(UserId::new))
    }

    /// Parses the device of a session.
    pub(super) fn device_id(self) -> Result<Option<DeviceId>, BadField> {
        Ok(self
            .integer(1..=i32::MAX as u64)?
            .and_then(|number| DeviceId::new(number as u32)))
    }

    pub(super) fn u32(self) -> Result<Option<u32>, BadField> {
        Ok(self.integer(0..=u64::from(u32::MAX))?.map(|number| number as u32))
    }

    /// Parses the seq of a message, which starts at 1.
    pub(super) fn seq(self) -> Result<Option<Seq>, BadField> {
        Ok(self.integer(1..=JSON_INTEGER_MAX)?.map(Seq))
    }

    pub(super) fn cursor(self) -> Result<Option<Position>, BadField> {
        let Some(text) = self.text()? else { return Ok(None) };
        text.parse().map(Some).map_err(|why| self.bad(why))
    }

    /// Finds the fields of an object; an absent one is no object.
    pub(super) fn object(self, fields: &mut impl Fields<'a>) -> Result<(), BadField> {
        read_object(self.name, self.raw.map_or("null", RawValue::get), fields)
    }

    /// Splits an array into its elements, each again under this field's name.
    pub(super) fn array(self, count_max: usize) -> Result<Option<Vec<Field<'a>>>, BadField> {
        let Some(json) = self.json() else { return Ok(None) };
        let elements = Elements {
            name: self.name,
            count_max,
        };
        match serde_json::Deserializer::from_str(json).deserialize_seq(elements) {
            Ok(Some(fields)) => Ok(Some(fields)),
            Ok(None) => Err(self.bad(format_args!("at most {count_max}"))),
            Err(_) => Err(self.bad("must be an array")),
        }
    }
}

/// The fields of one kind of object: where the value of a name goes.
pub(super) trait Fields<'a> {
    /// Returns the place of a known field; `None` for one that is ignored.
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>>;
}

/// Declares a struct of fields; each becomes a method that returns the [`Field`].
macro_rules! fields {
    ($(#[$doc:meta])* $type:ident { $($name:literal => $field:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $type<'a> {
            $($field: Option<&'a serde_json::value::RawValue>),+
        }

        impl<'a> $type<'a> {
            $(
                pub(super) fn $field(&self) -> $crate::json::object::Field<'a> {
                    $crate::json::object::Field { name: $name, raw: self.$field }
                }
            )+
        }

        impl<'a> $crate::json::object::Fields<'a> for $type<'a> {
            fn slot(&mut self, name: &str) -> Option<&mut Option<&'a serde_json::value::RawValue>> {
                match name {
                    $($name => Some(&mut self.$field),)+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use fields;

/// Finds the fields of an object; on a fault those before it are there.
pub(super) fn read_object<'a>(
    name: &str,
    json: &'a str,
    fields: &mut impl Fields<'a>,
) -> Result<(), BadField> {
    let mut input = serde_json::Deserializer::from_str(json);
    Object(fields)
        .deserialize(&mut input)
        .and_then(|()| input.end())
        .map_err(|error| {
            if error.is_data() {
                BadField::bad_request(name, "must be a JSON object")
            } else {
                // The error's own words could repeat content.
                let (line, column) = (error.line(), error.column());
                BadField::bad_request(
                    name,
                    format_args!("malformed JSON at line {line}, column {column}"),
                )
            }
        })
}

struct Object<'f, F>(&'f mut F);

impl<'a, F: Fields<'a>> DeserializeSeed<'a> for Object<'_, F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'a, F: Fields<'a>> Visitor<'a> for Object<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(slot) = map.next_key_seed(Name(&mut *self.0))? {
            match slot {
                Some(slot) => *slot = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a field's name and finds its slot.
struct Name<'f, F>(&'f mut F);

impl<'a: 'f, 'f, F: Fields<'a>> DeserializeSeed<'a> for Name<'f, F> {
    type Value = Option<&'f mut Option<&'a RawValue>>;

    fn deserialize<D: serde::Deserializer<'a>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_str(self)
    }
}

impl<'a: 'f, 'f, F: Fields<'a>> Visitor<'a> for Name<'f, F> {
    type Value = Option<&'f mut Option<&'a RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.slot(name))
    }
}

/// Collects the elements of an array; `None` as soon as there are too many.
struct Elements {
    name: &'static str,
    count_max: usize,
}

impl<'a> Visitor<'a> for Elements {
    type Value = Option<Vec<Field<'a>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut array: S) -> Result<Self::Value, S::Error> {
        let mut elements = Vec::new();
        while let Some(raw) = array.next_element()? {
            if elements.len() == self.count_max {
                while array.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            elements.push(Field {
                name: self.name,
                raw: Some(raw),
            });
        }
        Ok(Some(elements))
    }
}

/// Integers up to here are exact in every JSON reader.
pub(super) const JSON_INTEGER_MAX: u64 = (1 << 53) - 1;
const UUID_CHARS: usize = 36;
