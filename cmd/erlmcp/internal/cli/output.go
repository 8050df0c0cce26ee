package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "table", "table or json")
}

func checkOutput(output string) error {
	if output != "table" && output != "json" {
		return usagef("--output %q is neither table nor json", output)
	}
	return nil
}

// printJSON writes a message as it is in the REST API.
func printJSON(w io.Writer, m proto.Message) error {
	data, err := protojson.MarshalOptions{Multiline: true, Indent: "  ", EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("write the answer as JSON: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// table writes rows in columns. Line breaks in cells, which come from elsewhere, become spaces.
func table(w io.Writer, head []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = oneLine(cell)
			if cells[i] == "" {
				cells[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) // Flush reports it
	}
	return t.Flush()
}

// oneLine makes text from elsewhere safe for a terminal.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) }), " ")
}

func at(ts *timestamppb.Timestamp) string {
	if ts == nil {
		return ""
	}
	return ts.AsTime().UTC().Format("2006-01-02 15:04:05Z")
}

// word is the last part of an enum value's name, in small letters: READY of SERVER_STATE_READY.
func word(value, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(value, prefix))
}

// printTree writes nested JSON as indented lines.
func printTree(w io.Writer, tree map[string]any) error {
	var b strings.Builder
	writeTree(&b, tree, "")
	_, err := io.WriteString(w, b.String())
	return err
}

func writeTree(b *strings.Builder, tree map[string]any, indent string) {
	widest := 0
	for k := range tree {
		widest = max(widest, len(k))
	}
	for _, k := range slices.Sorted(maps.Keys(tree)) {
		switch v := tree[k].(type) {
		case map[string]any:
			fmt.Fprintf(b, "%s%s\n", indent, oneLine(k))
			writeTree(b, v, indent+"  ")
		case string:
			fmt.Fprintf(b, "%s%-*s  %s\n", indent, widest, oneLine(k), oneLine(v))
		default:
			text, err := json.Marshal(v)
			if err != nil {
				text = []byte("?")
			}
			fmt.Fprintf(b, "%s%-*s  %s\n", indent, widest, oneLine(k), text)
		}
	}
}
