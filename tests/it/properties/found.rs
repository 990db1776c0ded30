//! Cases that the properties found. They stay even if the generators change.

use std::sync::Arc;

use super::expect_rows;
use super::replies::{Element, Expiry, Message, People, Person, Step, Talk};
use crate::support::Lab;

pub(super) async fn an_altered_text_is_called_so_as_long_as_it_stands(lab: Arc<Lab>) -> anyhow::Result<()> {
    let says = |body| talk(vec![Message { body, ..message() }]);
    expect_rows(&lab, &[says(Some("cut \0 off")), says(None), says(Some("hello")), says(None)]).await
}

pub(super) async fn an_order_put_back_is_open_even_if_its_conversation_was_emptied(
    lab: Arc<Lab>,
) -> anyhow::Result<()> {
    for end in
        [Step::NotFound, Step::Refused, Step::Talk(Talk { elements: Vec::new(), people: None, expiry: Expiry::Yes })]
    {
        expect_rows(&lab, &[talk(vec![message()]), end, talk(Vec::new()), talk(Vec::new())]).await?;
    }
    Ok(())
}

pub(super) async fn a_name_counts_wherever_the_reply_says_it(lab: Arc<Lab>) -> anyhow::Result<()> {
    let person = |is_named, is_shown| Person { id: 1, is_named, is_shown };
    let people = |current_shopper, shoppers| {
        let people = People { version: 0, customer: None, current_shopper, shoppers: Some(shoppers) };
        Step::Talk(Talk { elements: Vec::new(), people: Some(people), expiry: Expiry::No })
    };
    expect_rows(&lab, &[people(None, vec![person(false, true), person(true, false)])]).await?;
    expect_rows(&lab, &[people(Some(person(true, false)), vec![person(false, true)])]).await
}

fn talk(messages: Vec<Message>) -> Step {
    let elements = messages.into_iter().map(Element::Good).collect();
    Step::Talk(Talk { elements, people: None, expiry: Expiry::Unsaid })
}

fn message() -> Message {
    Message {
        id: 1,
        order_id: None,
        created_at: None,
        sender: None,
        recipient: None,
        read: None,
        read_at: None,
        body: None,
        image: None,
        mood: None,
        is_in_words: false,
    }
}
