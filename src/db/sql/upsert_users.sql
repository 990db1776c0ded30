-- upsert_users
-- Adds chat users, with name and picture from the latest reply. A missing name or picture erases none. An older reply
-- overwrites nothing but fills in what is missing. Sorted: users are shared by orders, and two workers could deadlock
-- if they locked them in different orders.
WITH incoming AS (
    SELECT *
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
         AS t (user_type, user_id, display_name, avatar_url, observed_at)
),
changed AS (
    SELECT i.*
    FROM incoming AS i
    LEFT JOIN chat.users AS u USING (user_type, user_id)
    WHERE u.user_id IS NULL
       OR (i.display_name <> u.display_name AND i.observed_at > u.observed_at)
       OR (i.avatar_url <> u.avatar_url AND i.observed_at > u.observed_at)
       OR (i.display_name IS NOT NULL AND u.display_name IS NULL)
       OR (i.avatar_url IS NOT NULL AND u.avatar_url IS NULL)
),
written AS (
    INSERT INTO chat.users AS u (user_type, user_id, display_name, avatar_url, observed_at)
    SELECT user_type, user_id, display_name, avatar_url, observed_at
    FROM changed
    ORDER BY user_type COLLATE "C", user_id
    ON CONFLICT (user_type, user_id) DO UPDATE
    SET display_name = CASE WHEN excluded.observed_at > u.observed_at
                            THEN coalesce(excluded.display_name, u.display_name)
                            ELSE coalesce(u.display_name, excluded.display_name) END,
        avatar_url   = CASE WHEN excluded.observed_at > u.observed_at
                            THEN coalesce(excluded.avatar_url, u.avatar_url)
                            ELSE coalesce(u.avatar_url, excluded.avatar_url) END,
        observed_at  = greatest(excluded.observed_at, u.observed_at),
        -- Not overwritten: first_seen_at.
        updated_at   = now()
    -- Another worker may have written the same changes since they were compared.
    WHERE (excluded.display_name <> u.display_name AND excluded.observed_at > u.observed_at)
       OR (excluded.avatar_url <> u.avatar_url AND excluded.observed_at > u.observed_at)
       OR (excluded.display_name IS NOT NULL AND u.display_name IS NULL)
       OR (excluded.avatar_url IS NOT NULL AND u.avatar_url IS NULL)
    RETURNING 1
)
SELECT count(*) AS "written!" FROM written
