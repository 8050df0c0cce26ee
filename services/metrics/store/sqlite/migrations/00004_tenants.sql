-- +goose Up
-- Which tenant principals belong to: the last that they were seen with. Those with none are missing.
CREATE TABLE metrics_principals (
    principal TEXT PRIMARY KEY,
    tenant    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE metrics_principals;
