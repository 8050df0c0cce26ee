// Package config turns flags, environment variables and a file into one checked [Config]. A single table
// (table_*.go) says everything about a setting: its key in the file, its variables, flag, kind, default, the
// roles that use it and a line for operators; loading, `config check` and docs/configuration.md all read it.
//
// It must not know what the settings are for: it opens no connection and starts nothing. What it refuses, it
// refuses with one line that names the place, what is wrong there, and what to do ([Error]).
//
// Start at [Load], then [Config]; to add a setting, add a field and a row.
package config
