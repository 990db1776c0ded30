-- A reply named another shopper as the current one: whoever it no longer lists is not in charge either.
UPDATE chat.participants AS p
SET is_current = false,
    updated_at = now()
FROM unnest($1::text[], $2::bigint[]) AS c (order_id, current_shopper_id)
WHERE p.order_id = c.order_id
  -- Said twice: whichever side a plan begins with, it reads no rows of other orders.
  AND p.order_id = ANY ($1)
  AND p.role = 'shopper'
  AND p.is_current
  AND p.user_id <> c.current_shopper_id
