-- relieve_shoppers
-- Shoppers are no longer current if the reply names another current shopper, even if it does not list them.
UPDATE chat.participants AS p
SET is_current = false,
    updated_at = now()
FROM unnest($1::text[], $2::bigint[]) AS c (order_id, current_shopper_id)
WHERE p.order_id = c.order_id
  -- Redundant, so that no plan can read rows of other orders, whichever side it starts with.
  AND p.order_id = ANY ($1)
  AND p.role = 'shopper'
  AND p.is_current
  AND p.user_id <> c.current_shopper_id
