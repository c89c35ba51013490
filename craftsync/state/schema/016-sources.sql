-- Steps are added to a plan while it is carried out, at paths that no other step has to do with;
-- they have stage 3. A plan may have any number of steps, few of them moves.
CREATE INDEX IF NOT EXISTS plan_source ON plan (source) WHERE source IS NOT NULL;
