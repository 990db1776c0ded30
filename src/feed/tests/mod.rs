//! Tests feeds as `cli::enqueue` reads them.

mod csv;
mod files;
mod json;
mod plain;

use std::io::Cursor;

use super::*;

fn open(text: impl AsRef<[u8]>) -> Result<Feed, FeedError> {
    Feed::open(Cursor::new(text.as_ref().to_vec()), Choice::Auto)
}

fn read(text: impl AsRef<[u8]>) -> Vec<Result<NewOrder, BadLine>> {
    open(text).expect("a feed").map(|line| line.expect("readable")).collect()
}

fn ids(orders: &[Result<NewOrder, BadLine>]) -> Vec<String> {
    orders
        .iter()
        .map(|order| match order {
            Ok(order) => order.order_id.to_string(),
            Err(bad) => format!("line {}", bad.line),
        })
        .collect()
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    match open(&text) {
        Err(FeedError::Refused(refusal)) => refusal.to_string(),
        Err(error) => panic!("{error}"),
        Ok(feed) => {
            let orders: Vec<_> = feed.map(|line| line.expect("readable")).collect();
            panic!("{:?} was read: {:?}", String::from_utf8_lossy(text.as_ref()), ids(&orders))
        }
    }
}
