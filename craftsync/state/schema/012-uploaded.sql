-- Whether the object is this client's own upload, by the store's answer to that write. Of rows of
-- before nobody knows, and what nobody knows is kept.
ALTER TABLE baseline ADD COLUMN uploaded INTEGER NOT NULL DEFAULT 0;
