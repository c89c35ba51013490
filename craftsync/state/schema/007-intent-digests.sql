-- What a write was about to put there: by the store's word for the write, the operation, or by its content.
-- Intents of earlier versions have no digest; only a store that keeps the operation can confirm them.
ALTER TABLE intent ADD COLUMN digest BLOB;  -- SHA-256, 32 bytes
