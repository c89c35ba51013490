-- A migration remembers what it copied, and plans, in the tables of every run. Where a store is the
-- left side, an object's version stands where a file has its inode number.
ALTER TABLE baseline ADD COLUMN left_version TEXT;
ALTER TABLE baseline ADD COLUMN verified TEXT;  -- how it is known that both hold the same
ALTER TABLE plan ADD COLUMN left_version TEXT;

INSERT INTO baseline (path, size, mtime_ns, ctime_ns, inode, racy, digest, modified_ns, version,
                      left_version, verified)
    SELECT path, size, coalesce(source_modified_ns, -9223372036854775808), 0, 0, 0, digest,
           target_modified_ns, target_version, coalesce(source_version, ''), verified FROM copied;
DROP TABLE copied;

-- Stage 4 are steps that were tried in this run and could not be done.
INSERT INTO plan (stage, kind, path, rule, size, mtime_ns, ctime_ns, left_version, remote_size,
                  modified_ns, version)
    SELECT CASE WHEN undone THEN 4 WHEN kind = 'delete-remote' THEN 2 ELSE 1 END, kind, path, rule,
           source_size, coalesce(source_modified_ns, -9223372036854775808), 0,
           coalesce(source_version, ''), target_size, target_modified_ns, target_version
    FROM copy_step;
DROP TABLE copy_step;
