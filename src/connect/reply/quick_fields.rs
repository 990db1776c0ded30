//! How the quick decoder reads a field of a message: it fails on what the careful one must look at.

use chrono::{DateTime, Utc};
use serde::de::{Deserialize, Error as _, MapAccess};

use super::careful_fields::is_type;
use super::lossless;
use crate::connect::text::Text;
use crate::domain::UserType;

pub(super) use any as boolean;
pub(super) use any as id;
pub(super) use any as integer;
pub(super) use any as text;
pub(super) use any as words;

pub(super) fn any<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    field: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    if field.is_some() {
        return Err(A::Error::custom("repeated"));
    }
    *field = map.next_value()?;
    Ok(())
}

pub(super) fn time<'de, A: MapAccess<'de>>(field: &mut Option<DateTime<Utc>>, map: &mut A) -> Result<(), A::Error> {
    parsed(field, map, |text| lossless::time(&text.text))
}

pub(super) fn user_type<'de, A: MapAccess<'de>>(field: &mut Option<UserType>, map: &mut A) -> Result<(), A::Error> {
    parsed(field, map, |text| is_type(text).then(|| UserType::new(&text.text)))
}

fn parsed<'de, A: MapAccess<'de>, T>(
    field: &mut Option<T>,
    map: &mut A,
    parse: impl FnOnce(&Text<'de>) -> Option<T>,
) -> Result<(), A::Error> {
    if field.is_some() {
        return Err(A::Error::custom("repeated"));
    }
    let mut text = None;
    any(&mut text, map)?;
    if let Some(text) = text.filter(|text: &Text| !text.text.is_empty()) {
        *field = Some(parse(&text).ok_or_else(|| A::Error::custom("not readable"))?);
    }
    Ok(())
}
