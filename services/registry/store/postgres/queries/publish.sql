-- Makes $1 the catalogue's version and forgets removals up to $2.
WITH forgotten AS (
    DELETE FROM registry_removed WHERE version <= $2
)
UPDATE registry_catalog SET version = $1, floor = greatest(floor, $2)
