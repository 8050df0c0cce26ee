-- Marks a batch as counted: one row, or none where it was before. A transaction that counts the same batch at the
-- same time is waited for.
INSERT INTO metrics_batches (node, sequence, at)
VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
