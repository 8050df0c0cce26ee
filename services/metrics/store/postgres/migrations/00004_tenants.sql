-- +goose Up
-- Which tenant principals belong to: the last that they were seen with. Those with none are missing.
CREATE TABLE metrics_principals (
    principal text COLLATE "C" PRIMARY KEY,
    tenant    text COLLATE "C" NOT NULL
);

-- +goose Down
DROP TABLE metrics_principals;
