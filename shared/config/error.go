package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Error says in one line where a setting is wrong, what is wrong with it, and what to do.
type Error struct {
	// Place: "erlmcp.yaml:3 ports.http", "ERLMCP_PORT" or "--log-level".
	Place string
	// Problem, without the value where that is a secret.
	Problem string
	// Fix tells what to do.
	Fix string
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Place + ": " + e.Problem
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// quote shows a piece of input on one line, shortened.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}

// plain shows a name as it is where it is harmless, else quoted.
func plain(name string) string {
	if name == "" || len(name) > 80 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }) {
		return quote(name)
	}
	return name
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
