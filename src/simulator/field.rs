//! An optional field of a JSON reply. The API may leave it out or send it as null, which differ on the wire.
//!
//! Used by the types that are serialised into a reply, together with `skip_serializing_if = "Field::is_absent"`.

use serde::{Serialize, Serializer};

use super::random::one_in;

#[derive(Clone, Debug)]
pub(super) enum Field<T> {
    Absent,
    Null,
    Value(T),
}

impl<T> Field<T> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Returns no value, in one of the two ways.
    pub(super) fn nothing(rng: &mut fastrand::Rng) -> Self {
        if rng.bool() { Self::Absent } else { Self::Null }
    }

    /// Returns `value`, or no value once in `n` times.
    pub(super) fn mostly(rng: &mut fastrand::Rng, n: u32, value: T) -> Self {
        if one_in(rng, n) { Self::nothing(rng) } else { Self::Value(value) }
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => serializer.serialize_some(value),
            // `Absent` is never serialised: its field is skipped.
            Self::Absent | Self::Null => serializer.serialize_none(),
        }
    }
}
