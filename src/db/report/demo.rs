//! The queries of schema `chat` that `chatsync demo` shows.

use chrono::{DateTime, Utc};

use crate::db::{Error, Store, Transaction};

#[derive(Debug)]
pub struct Line {
    pub created_at: Option<DateTime<Utc>>,
    pub sender_type: Option<String>,
    pub sender_name: Option<String>,
    pub is_read: Option<bool>,
    pub body: Option<String>,
    pub image_url: Option<String>,
}

#[derive(Debug)]
pub struct Promptness {
    pub name: Option<String>,
    pub answers: i64,
    pub median_seconds: f64,
}

/// Returns an order with a lively conversation of moderate length, if there is one.
pub async fn lively_order(store: &Store) -> Result<Option<String>, Error> {
    let look = |mut transaction: Transaction| async move {
        let order_id = sqlx::query_scalar!(
            "-- lively_order
           SELECT order_id
         FROM chat.orders AS o
         WHERE message_count BETWEEN 5 AND 9
         ORDER BY (SELECT count(DISTINCT sender_type) FROM chat.messages AS m WHERE m.order_id = o.order_id) DESC,
                  last_message_at, order_id
         LIMIT 1"
        )
        .fetch_optional(&mut *transaction)
        .await?;
        Ok(order_id)
    };
    store.run("lively_order", look).await
}

/// Returns a conversation in the order of its messages.
pub async fn conversation(store: &Store, order_id: &str) -> Result<Vec<Line>, Error> {
    let look = |mut transaction: Transaction| async move {
        let lines = sqlx::query_as!(
        Line,
        r#"-- conversation
           SELECT sync.within_calendar(m.created_at) AS created_at, m.sender_type, u.display_name AS "sender_name?", m.is_read, m.body, m.image_url
           FROM chat.messages AS m
           LEFT JOIN chat.users AS u ON u.user_type = m.sender_type AND u.user_id = m.sender_id
           WHERE m.order_id = $1
           ORDER BY m.position"#,
        order_id,
    )
    .fetch_all(&mut *transaction)
    .await?;
        Ok(lines)
    };
    store.run("conversation", look).await
}

/// Returns shoppers by the median time from a customer message to their reply, the fastest first.
pub async fn promptest_shoppers(store: &Store, limit: i64) -> Result<Vec<Promptness>, Error> {
    let look = |mut transaction: Transaction| async move {
        let shoppers = sqlx::query_as!(
        Promptness,
        r#"-- promptest_shoppers
           WITH turns AS (
               SELECT sender_type, sender_id, created_at,
                      lag(sender_type) OVER conversation AS before_type,
                      lag(created_at) OVER conversation AS before_at
               FROM chat.messages
               WINDOW conversation AS (PARTITION BY order_id ORDER BY position)
           )
           SELECT u.display_name AS "name?",
                  count(*) AS "answers!",
                  percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - before_at)) AS "median_seconds!"
           FROM turns
           JOIN chat.users AS u ON u.user_type = turns.sender_type AND u.user_id = turns.sender_id
           WHERE sender_type = 'driver' AND before_type = 'user' AND created_at >= before_at
           GROUP BY u.user_type, u.user_id
           HAVING count(*) >= 3
           ORDER BY 3, u.user_id
           LIMIT $1"#,
        limit,
    )
    .fetch_all(&mut *transaction)
    .await?;
        Ok(shoppers)
    };
    store.run("promptest_shoppers", look).await
}
