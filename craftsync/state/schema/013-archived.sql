-- What waits because its object is archived, so that no copy of it could be kept: deletes and
-- uploads. Such a row says nothing of other paths, and belongs to no event.
ALTER TABLE held ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
