//! What the statements of this folder share.

use crate::domain::{Conversation, Settlement};

pub(super) type Read<'a> = (&'a Settlement, &'a Conversation);

/// The new value of the column; `None` keeps the old one: the reply had no messages.
pub(super) fn messages_left_out(settled: &Settlement) -> Option<i32> {
    settled.chat.has_messages().then(|| i32::try_from(settled.chat.messages_left_out).unwrap_or(i32::MAX))
}

pub(super) fn read<'a>(settlements: &[&'a Settlement]) -> Vec<Read<'a>> {
    settlements
        .iter()
        .filter_map(|settled| settled.chat.conversation.as_ref().map(|conversation| (*settled, conversation)))
        .collect()
}
