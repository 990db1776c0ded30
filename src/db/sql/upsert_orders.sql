-- upsert_orders
-- Writes chat.orders. Must run after the messages: counts and times are read back from their table, so they include
-- what was stored before. Unchanged rows are not touched.
WITH incoming AS (
    SELECT
        i.order_id, i.status, i.coverage, i.closed_at,
        coalesce(i.instacart_order_id, o.instacart_order_id) AS instacart_order_id,
        coalesce(i.customer_id, o.customer_id) AS customer_id,
        coalesce(i.current_shopper_id, o.current_shopper_id) AS current_shopper_id,
        CASE WHEN i.has_conversation THEN s.message_count ELSE coalesce(o.message_count, 0) END AS message_count,
        CASE WHEN i.has_conversation THEN s.first_message_at ELSE o.first_message_at END AS first_message_at,
        CASE WHEN i.has_conversation THEN s.last_message_at ELSE o.last_message_at END AS last_message_at,
        coalesce(i.messages_left_out, o.messages_left_out, 0) AS messages_left_out
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::bigint[], $8::boolean[],
        $9::integer[]
    ) AS i (
        order_id, status, coverage, closed_at, instacart_order_id, customer_id, current_shopper_id, has_conversation,
        messages_left_out
    )
    LEFT JOIN chat.orders AS o USING (order_id)
    LEFT JOIN LATERAL (
        SELECT
            count(*)::integer AS message_count,
            min(m.created_at) AS first_message_at,
            max(m.created_at) AS last_message_at
        FROM chat.messages AS m
        WHERE m.order_id = i.order_id
    ) AS s ON i.has_conversation
)
INSERT INTO chat.orders AS o (
    order_id, status, coverage, closed_at, instacart_order_id, customer_id, current_shopper_id,
    message_count, first_message_at, last_message_at, messages_left_out
)
SELECT
    order_id, status, coverage, closed_at, instacart_order_id, customer_id, current_shopper_id,
    message_count, first_message_at, last_message_at, messages_left_out
FROM incoming
ORDER BY order_id COLLATE "C"
ON CONFLICT (order_id) DO UPDATE
SET status             = excluded.status,
    coverage           = excluded.coverage,
    closed_at          = excluded.closed_at,
    instacart_order_id = excluded.instacart_order_id,
    customer_id        = excluded.customer_id,
    current_shopper_id = excluded.current_shopper_id,
    message_count      = excluded.message_count,
    first_message_at   = excluded.first_message_at,
    last_message_at    = excluded.last_message_at,
    messages_left_out  = excluded.messages_left_out,
    -- Not overwritten: first_synced_at.
    updated_at         = now()
WHERE ROW (
          o.status, o.coverage, o.closed_at, o.instacart_order_id, o.customer_id, o.current_shopper_id,
          o.message_count, o.first_message_at, o.last_message_at, o.messages_left_out
      ) IS DISTINCT FROM ROW (
          excluded.status, excluded.coverage, excluded.closed_at, excluded.instacart_order_id, excluded.customer_id,
          excluded.current_shopper_id, excluded.message_count, excluded.first_message_at, excluded.last_message_at,
          excluded.messages_left_out
      )
