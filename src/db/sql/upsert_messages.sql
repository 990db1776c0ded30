-- upsert_messages
-- Adds new messages and updates known ones. Rows with the same content are not touched.
WITH incoming AS (
    SELECT *
    FROM unnest(
        $1::text[], $2::bigint[], $3::bigint[], $4::integer[], $5::timestamptz[], $6::text[], $7::bigint[],
        $8::text[], $9::bigint[], $10::boolean[], $11::timestamptz[], $12::text[], $13::text[], $14::jsonb[], $15::text[],
        $16::boolean[]
    ) AS t (
        order_id, message_id, instacart_order_id, position, created_at, sender_type, sender_id,
        recipient_type, recipient_id, is_read, read_at, body, image_url, extra, unreadable, is_altered
    )
),
merged AS (
    SELECT
        i.order_id,
        i.message_id,
        i.position,
        -- A value that the API no longer sends is kept.
        coalesce(i.instacart_order_id, m.instacart_order_id) AS instacart_order_id,
        coalesce(i.created_at, m.created_at) AS created_at,
        coalesce(i.sender_type, m.sender_type) AS sender_type,
        coalesce(i.sender_id, m.sender_id) AS sender_id,
        coalesce(i.recipient_type, m.recipient_type) AS recipient_type,
        coalesce(i.recipient_id, m.recipient_id) AS recipient_id,
        -- Never goes back to false.
        CASE WHEN m.is_read THEN true ELSE coalesce(i.is_read, m.is_read) END AS is_read,
        coalesce(i.read_at, m.read_at) AS read_at,
        coalesce(i.body, m.body) AS body,
        coalesce(char_length(i.body), m.body_length) AS body_length,
        coalesce(i.image_url, m.image_url) AS image_url,
        e.extra,
        u.unreadable,
        a.is_altered
    FROM incoming AS i
    LEFT JOIN chat.messages AS m USING (order_id, message_id)
    CROSS JOIN LATERAL (
        -- Newly sent unknown fields replace stored ones. An undecodable value is removed once its field is sent in a
        -- form that can be decoded.
        SELECT CASE WHEN m.extra IS NOT NULL THEN
            m.extra - ARRAY[
                CASE WHEN i.instacart_order_id IS NOT NULL THEN 'order_id' END,
                CASE WHEN i.created_at IS NOT NULL THEN 'created_at' END,
                CASE WHEN i.sender_type IS NOT NULL THEN 'sender_type' END,
                CASE WHEN i.sender_id IS NOT NULL THEN 'sender_id' END,
                CASE WHEN i.recipient_type IS NOT NULL THEN 'recipient_type' END,
                CASE WHEN i.recipient_id IS NOT NULL THEN 'recipient_id' END,
                CASE WHEN i.is_read IS NOT NULL THEN 'read' END,
                CASE WHEN i.read_at IS NOT NULL THEN 'read_at' END,
                CASE WHEN i.body IS NOT NULL THEN 'body' END,
                CASE WHEN i.image_url IS NOT NULL THEN 'image' END
            ]
        END AS extra
    ) AS k
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN k.extra IS NULL THEN i.extra
            WHEN i.extra IS NULL THEN nullif(k.extra, '{}')
            ELSE k.extra || i.extra
        END AS extra
    ) AS e
    CROSS JOIN LATERAL (
        -- A documented name is in extra if and only if its value could not be decoded.
        SELECT CASE WHEN i.unreadable IS NOT NULL OR m.unreadable IS NOT NULL THEN (
            SELECT array_agg(DISTINCT name COLLATE "C")
            FROM unnest(string_to_array(i.unreadable, ',') || m.unreadable) AS names (name)
            WHERE e.extra ? name
        ) END AS unreadable
    ) AS u
    CROSS JOIN LATERAL (
        -- Stays altered as long as a replacement character remains in a value that the API no longer sends.
        SELECT i.is_altered OR (
            coalesce(m.is_altered, false) AND (
                e.extra IS DISTINCT FROM i.extra
                OR strpos(
                    concat(
                        CASE WHEN i.body IS NULL THEN m.body END,
                        CASE WHEN i.image_url IS NULL THEN m.image_url END,
                        CASE WHEN i.sender_type IS NULL THEN m.sender_type END,
                        CASE WHEN i.recipient_type IS NULL THEN m.recipient_type END
                    ),
                    chr(65533)
                ) > 0
            )
        ) AS is_altered
    ) AS a
    WHERE m.message_id IS NULL
       -- The message was marked as removed and is returned again.
       OR m.removed_at IS NOT NULL
       OR ROW (
              i.position,
              coalesce(i.instacart_order_id, m.instacart_order_id),
              coalesce(i.created_at, m.created_at),
              coalesce(i.sender_type, m.sender_type),
              coalesce(i.sender_id, m.sender_id),
              coalesce(i.recipient_type, m.recipient_type),
              coalesce(i.recipient_id, m.recipient_id),
              CASE WHEN m.is_read THEN true ELSE coalesce(i.is_read, m.is_read) END,
              coalesce(i.read_at, m.read_at),
              coalesce(i.body, m.body),
              coalesce(i.image_url, m.image_url),
              e.extra,
              u.unreadable,
              a.is_altered
          ) IS DISTINCT FROM ROW (
              m.position, m.instacart_order_id, m.created_at, m.sender_type, m.sender_id, m.recipient_type,
              m.recipient_id, m.is_read, m.read_at, m.body, m.image_url, m.extra, m.unreadable,
              m.is_altered
          )
),
written AS (
    INSERT INTO chat.messages AS m (
        order_id, message_id, instacart_order_id, position, created_at, sender_type, sender_id, recipient_type,
        recipient_id, is_read, read_at, body, body_length, image_url, extra, unreadable, is_altered
    )
    SELECT
        order_id, message_id, instacart_order_id, position, created_at, sender_type, sender_id, recipient_type,
        recipient_id, is_read, read_at, body, body_length, image_url, extra, unreadable, is_altered
    FROM merged
    ORDER BY order_id COLLATE "C", message_id
    -- Only the holder of the lease writes messages of the order, so merged is still current.
    ON CONFLICT (order_id, message_id) DO UPDATE
    SET instacart_order_id = excluded.instacart_order_id,
        position           = excluded.position,
        created_at         = excluded.created_at,
        sender_type        = excluded.sender_type,
        sender_id          = excluded.sender_id,
        recipient_type     = excluded.recipient_type,
        recipient_id       = excluded.recipient_id,
        is_read            = excluded.is_read,
        read_at            = excluded.read_at,
        body               = excluded.body,
        body_length        = excluded.body_length,
        image_url          = excluded.image_url,
        extra              = excluded.extra,
        unreadable         = excluded.unreadable,
        is_altered         = excluded.is_altered,
        removed_at         = NULL,
        -- Not overwritten: first_synced_at.
        updated_at         = now()
    RETURNING (m.xmax = 0) AS is_new
)
SELECT count(*) FILTER (WHERE is_new) AS "inserted!",
       count(*) FILTER (WHERE NOT is_new) AS "updated!",
       (SELECT count(*) FROM merged) AS "sent!"
FROM written
