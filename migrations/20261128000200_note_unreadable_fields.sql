-- A field that cannot be read costs that field, not its message; a message without an id cannot be stored.
ALTER TABLE chat.messages ADD COLUMN unreadable text[];
ALTER TABLE chat.orders ADD COLUMN messages_left_out integer NOT NULL DEFAULT 0;

COMMENT ON COLUMN chat.messages.unreadable IS 'The API''s names of the fields that came with a value that could not be read, such as {created_at,image}; null when there are none. Their columns hold what an earlier reply said, or null. Their values stand in extra as they came, until a later reply has one that can be read';
COMMENT ON COLUMN chat.messages.extra IS 'Fields that the API added and chatsync does not know, and values that could not be read (see unreadable), by the API''s names; null when there are none. Treat it as chat text: it may hold texts and names';
COMMENT ON COLUMN chat.orders.messages_left_out IS 'Messages that could not be stored, of the last reply that held messages: they had no usable id, or the id of another message of the same reply. They are in sync.rejects. Such a reply is no good read: it proves no completeness';
COMMENT ON COLUMN chat.messages.is_altered IS 'True where a character that PostgreSQL cannot store (NUL, half of a surrogate pair, bytes that are no UTF-8) stands as U+FFFD, or a value of extra as its JSON text';
