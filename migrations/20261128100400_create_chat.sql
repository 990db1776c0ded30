-- Schema chat: what analysts query. Rows are only added or completed; nothing that the API no longer returns is deleted.
-- No foreign keys: messages, users and orders are written set by set in one transaction, and the lease guards the rows of
-- an order.
DO $$
BEGIN
    COMMENT ON SCHEMA chat IS 'Conversations between customers and shoppers, as read from the Instacart Connect API';
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END $$;

CREATE TABLE chat.orders (
    order_id           text COLLATE "C" PRIMARY KEY,
    instacart_order_id bigint,
    status             text NOT NULL CONSTRAINT status_is_known CHECK (status IN ('open', 'closed', 'expired', 'quiet')),
    coverage           text NOT NULL CONSTRAINT coverage_is_known CHECK (coverage IN (
                           'pending', 'captured', 'captured_open', 'no_chat',
                           'expired_partial', 'expired_unread', 'not_found', 'failed')),
    closed_at          timestamptz,
    customer_id        bigint,
    current_shopper_id bigint,
    message_count      integer NOT NULL DEFAULT 0,
    messages_left_out  integer NOT NULL DEFAULT 0,
    first_message_at   timestamptz,
    last_message_at    timestamptz,
    first_synced_at    timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 90);

COMMENT ON TABLE chat.orders IS 'One row per order that was fetched or given up. When an order was last read is sync.order_queue.last_fetched_at';
COMMENT ON COLUMN chat.orders.order_id IS 'Id of the order as enqueued; joins to sync.order_queue, chat.messages and chat.participants';
COMMENT ON COLUMN chat.orders.instacart_order_id IS 'Instacart''s integer id of the order, from its messages: a different number than order_id';
COMMENT ON COLUMN chat.orders.status IS 'open: may still grow; closed: the API does not know it, or no longer does; expired: the API no longer returns the conversation; quiet: unchanged for so long that it is not read any more';
COMMENT ON COLUMN chat.orders.coverage IS 'How much of the conversation is stored, as a proven fact. captured: complete; captured_open: read, may still grow; no_chat: complete, no messages; expired_partial: read, but too early before its end to prove completeness; expired_unread: lost, it had expired before the first read; not_found: the API never knew the order; failed: given up';
COMMENT ON COLUMN chat.orders.closed_at IS 'When the API answered that it does not know the order';
COMMENT ON COLUMN chat.orders.customer_id IS 'The customer''s id, as a chat user of type user';
COMMENT ON COLUMN chat.orders.current_shopper_id IS 'Id of the shopper last seen in charge, as a chat user of type driver';
COMMENT ON COLUMN chat.orders.message_count IS 'Rows in chat.messages, removed ones included';
COMMENT ON COLUMN chat.orders.messages_left_out IS 'Messages of the last reply with messages that could not be stored: without a usable id, or with the id of another message of the same reply. They are in sync.rejects. Such a reply proves no completeness';
COMMENT ON COLUMN chat.orders.first_message_at IS 'Earliest created_at of the stored messages';
COMMENT ON COLUMN chat.orders.last_message_at IS 'Latest created_at of the stored messages';
COMMENT ON COLUMN chat.orders.first_synced_at IS 'When this row was first written';
COMMENT ON COLUMN chat.orders.updated_at IS 'When a value in this row last changed';

CREATE TABLE chat.messages (
    order_id           text COLLATE "C" NOT NULL,
    message_id         bigint NOT NULL,
    instacart_order_id bigint,
    position           integer NOT NULL,
    created_at         timestamptz,
    sender_type        text,
    sender_id          bigint,
    recipient_type     text,
    recipient_id       bigint,
    is_read            boolean,
    read_at            timestamptz,
    body               text,
    body_length        integer,
    image_url          text,
    extra              jsonb,
    unreadable         text[],
    is_altered         boolean NOT NULL DEFAULT false,
    removed_at         timestamptz,
    first_synced_at    timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, message_id)
) WITH (fillfactor = 90);

COMMENT ON TABLE chat.messages IS 'One row per message ever seen. A message that the API no longer returns stays, with removed_at';
COMMENT ON COLUMN chat.messages.order_id IS 'Id of the order as enqueued';
COMMENT ON COLUMN chat.messages.message_id IS 'The API''s id of the message';
COMMENT ON COLUMN chat.messages.instacart_order_id IS 'Instacart''s integer id of the order, from the message';
COMMENT ON COLUMN chat.messages.position IS 'Place in the reply in which it was last seen, from 0: the order of the conversation';
COMMENT ON COLUMN chat.messages.created_at IS 'When it was written; null if the API did not say';
COMMENT ON COLUMN chat.messages.sender_type IS 'user (customer), driver (shopper), or another type that the API names';
COMMENT ON COLUMN chat.messages.sender_id IS 'With sender_type: key of chat.users';
COMMENT ON COLUMN chat.messages.recipient_type IS 'user (customer), driver (shopper), or another type that the API names';
COMMENT ON COLUMN chat.messages.recipient_id IS 'With recipient_type: key of chat.users';
COMMENT ON COLUMN chat.messages.is_read IS 'Whether the recipient has read it; never goes back to false';
COMMENT ON COLUMN chat.messages.read_at IS 'When the recipient read it; null if the API did not say';
COMMENT ON COLUMN chat.messages.body IS 'The text';
COMMENT ON COLUMN chat.messages.body_length IS 'Characters (code points) of the text; survives erasure of the body';
COMMENT ON COLUMN chat.messages.image_url IS 'Attached image';
COMMENT ON COLUMN chat.messages.extra IS 'Fields that the API added and chatsync does not know, and values that could not be decoded (see unreadable), by the API''s names; null if there are none. Treat it as chat text: it may contain texts and names';
COMMENT ON COLUMN chat.messages.unreadable IS 'The API''s names of the fields whose values could not be decoded, such as {created_at,image}; null if there are none. Their columns contain the value of an earlier reply, or null. The values are in extra as sent, until a later reply can be decoded';
COMMENT ON COLUMN chat.messages.is_altered IS 'True if U+FFFD replaces a character that PostgreSQL cannot store (NUL, half of a surrogate pair, bytes that are not UTF-8), or extra holds a value as its JSON text';
COMMENT ON COLUMN chat.messages.removed_at IS 'Since when the API no longer returns it; null: still returned when last read';
COMMENT ON COLUMN chat.messages.first_synced_at IS 'When this row was first written';
COMMENT ON COLUMN chat.messages.updated_at IS 'When a value in this row last changed';

CREATE TABLE chat.users (
    user_type     text COLLATE "C",
    user_id       bigint,
    display_name  text,
    avatar_url    text,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    observed_at   timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_type, user_id)
) WITH (fillfactor = 90);

COMMENT ON TABLE chat.users IS 'Everyone who took part in a conversation. The two types number their ids separately';
COMMENT ON COLUMN chat.users.user_type IS 'user (customer), driver (shopper), or another type that the API names';
COMMENT ON COLUMN chat.users.user_id IS 'The API''s id within the type';
COMMENT ON COLUMN chat.users.display_name IS 'Name as last shown in a chat; null if no reply has named the user';
COMMENT ON COLUMN chat.users.avatar_url IS 'Picture as last shown in a chat; null if there was none';
COMMENT ON COLUMN chat.users.first_seen_at IS 'When this row was first written';
COMMENT ON COLUMN chat.users.observed_at IS 'When the request was sent whose reply name and picture are from: an older reply does not overwrite them';
COMMENT ON COLUMN chat.users.updated_at IS 'When a value in this row last changed';

CREATE TABLE chat.participants (
    order_id        text COLLATE "C",
    user_type       text COLLATE "C",
    user_id         bigint,
    role            text COLLATE "C" CONSTRAINT role_is_known CHECK (role IN ('customer', 'shopper', 'correspondent')),
    is_current      boolean NOT NULL DEFAULT false,
    first_synced_at timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, user_type, user_id, role)
) WITH (fillfactor = 90);

COMMENT ON TABLE chat.participants IS 'Which chat user took part in which order, and in which role';
COMMENT ON COLUMN chat.participants.order_id IS 'Id of the order as enqueued';
COMMENT ON COLUMN chat.participants.user_type IS 'With user_id: key of chat.users';
COMMENT ON COLUMN chat.participants.user_id IS 'With user_type: key of chat.users';
COMMENT ON COLUMN chat.participants.role IS 'customer or shopper as named by the reply; correspondent: wrote or was written to without being named';
COMMENT ON COLUMN chat.participants.is_current IS 'True for the shopper last seen in charge of the order, false for everyone else';
COMMENT ON COLUMN chat.participants.first_synced_at IS 'When this row was first written';
COMMENT ON COLUMN chat.participants.updated_at IS 'When a value in this row last changed';
