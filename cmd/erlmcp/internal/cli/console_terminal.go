package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peterh/liner"
)

// terminal is a person who types.
type terminal struct {
	*liner.State
	history string // the file; empty for none
}

// terminal opens the terminal, where standard input is one.
func (o *console) terminal(ctx context.Context) (lines, bool) {
	if o.inside.In != os.Stdin || o.inside.Out != os.Stdout {
		return nil, false
	}
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil, false
	}
	t := &terminal{State: liner.NewLiner()}
	t.SetCtrlCAborts(true)
	t.SetTabCompletionStyle(liner.TabPrints)
	t.SetWordCompleter(func(line string, pos int) (string, []string, string) {
		return o.complete(ctx, line, pos)
	})
	if home, err := os.UserHomeDir(); err == nil {
		t.history = filepath.Join(home, ".erlmcp_history")
		if f, err := os.Open(t.history); err == nil {
			_, _ = t.ReadHistory(f) // without it the prompt works too
			_ = f.Close()
		}
	}
	return t, true
}

// secretFlags may hold secrets: a line with one is not kept.
var secretFlags = []string{"--key", "--header", "--env", "--metadata"}

func (t *terminal) next() (string, error) {
	for {
		line, err := t.Prompt("erlmcp> ")
		switch {
		case errors.Is(err, liner.ErrPromptAborted): // Ctrl-C empties the line
			continue
		case err != nil:
			return "", err
		}
		if strings.TrimSpace(line) != "" && !slices.ContainsFunc(secretFlags, func(f string) bool { return strings.Contains(line, f) }) {
			t.AppendHistory(line)
		}
		return line, nil
	}
}

func (t *terminal) close() {
	if t.history != "" {
		if f, err := os.OpenFile(t.history, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err == nil { // a read-only home keeps none
			_, _ = t.WriteHistory(f)
			_ = f.Close()
		}
	}
	_ = t.State.Close()
}

// complete finds what the word at pos may become.
func (o *console) complete(ctx context.Context, line string, pos int) (head string, completions []string, tail string) {
	runes := []rune(line)
	before, tail := string(runes[:pos]), string(runes[pos:])
	begun := before[strings.LastIndexAny(before, " \t")+1:]
	head = strings.TrimSuffix(before, begun)
	words, err := o.words(head)
	if err != nil {
		return head, nil, tail // within quotes
	}
	asking := &console{admin: o.admin, silent: true}
	var out bytes.Buffer
	asking.inside = System{Environ: o.inside.Environ, Out: &out, Err: io.Discard, In: strings.NewReader(""), console: asking}
	if asking.command(slices.Concat([]string{"__complete"}, words, []string{begun})).ExecuteContext(ctx) != nil {
		return head, nil, tail
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, ":") { // cobra's last line
			break
		}
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		completions = append(completions, word+" ")
	}
	return head, completions, tail
}
