//! What the statements of this folder share.

use crate::domain::{Conversation, Settlement};

pub(super) type Read<'a> = (&'a Settlement, &'a Conversation);

/// The new value of the column; `None` keeps the old one: the reply had no messages.
pub(super) fn messages_left_out(settled: &Settlement) -> Option<i32> {
    settled.chat.has_messages().then(|| number(settled.chat.messages_left_out))
}

pub(super) fn read<'a>(settlements: &[&'a Settlement]) -> Vec<Read<'a>> {
    settlements
        .iter()
        .filter_map(|settled| settled.chat.conversation.as_ref().map(|conversation| (*settled, conversation)))
        .collect()
}

/// Converts to the type of the column; larger values become its maximum.
pub(super) fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
