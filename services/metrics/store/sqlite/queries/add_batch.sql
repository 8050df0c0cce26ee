-- Marks a batch as counted: one row, or none where it was before.
INSERT INTO metrics_batches (node, sequence, at)
VALUES (?, ?, ?)
ON CONFLICT DO NOTHING
