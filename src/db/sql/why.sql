-- why
-- One order: its queue row, its coverage, and how much of it is stored. All lookups are by key.
SELECT
    now() AS "now!",
    q.order_id, q.state, q.connect_user_id, q.token_kind, q.ids_internal, q.retailer_id, q.priority, q.failures,
    q.lease_id, q.last_error_kind, q.last_error, q.source, q.held_kind, q.held_times,
    -- A new order is due since the epoch.
    sync.within_calendar(CASE WHEN q.due_at = 'epoch' THEN least(q.enqueued_at, now()) ELSE q.due_at END) AS "due_at!",
    sync.within_calendar(q.leased_until) AS leased_until,
    sync.within_calendar(q.last_fetched_at) AS last_fetched_at,
    sync.within_calendar(q.last_changed_at) AS last_changed_at,
    sync.within_calendar(q.completed_at) AS completed_at,
    sync.within_calendar(q.expired_at) AS expired_at,
    sync.within_calendar(q.closed_at) AS closed_at,
    sync.within_calendar(q.enqueued_at) AS "enqueued_at!",
    sync.within_calendar(q.deadline_base) AS "deadline_base!",
    sync.within_calendar(q.held_since) AS held_since,
    o.coverage AS "coverage?",
    m.messages AS "messages!",
    m.removed AS "removed!",
    sync.within_calendar(m.first_message_at) AS first_message_at,
    sync.within_calendar(m.last_message_at) AS last_message_at,
    p.participants AS "participants!"
FROM sync.order_queue AS q
LEFT JOIN chat.orders AS o ON o.order_id = q.order_id
CROSS JOIN LATERAL (
    SELECT
        count(*) AS messages,
        count(removed_at) AS removed,
        min(created_at) AS first_message_at,
        max(created_at) AS last_message_at
    FROM chat.messages
    WHERE order_id = q.order_id
) AS m
CROSS JOIN LATERAL (
    -- A person may have several roles.
    SELECT count(DISTINCT (user_type, user_id)) AS participants
    FROM chat.participants
    WHERE order_id = q.order_id
) AS p
WHERE q.order_id = $1
