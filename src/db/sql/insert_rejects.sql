-- insert_rejects
INSERT INTO sync.rejects (order_id, run_id, received_at, http_status, kind, json_path, reason, body, body_bytes)
SELECT order_id, $9, received_at, http_status, kind, json_path, reason, body, body_bytes
FROM unnest(
    $1::text[], $2::timestamptz[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[]
) AS t (order_id, received_at, http_status, kind, json_path, reason, body, body_bytes)
