package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
)

func toolsCommand(s *System) *cobra.Command {
	return group("tools", "List and call tools as a client would", "  erlmcp tools list",
		toolsListCommand(s), toolsCallCommand(s))
}

func toolsListCommand(s *System) *cobra.Command {
	var view string
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the tools that clients are shown", Args: takes(0, 0, ""),
		Example: "  erlmcp tools list\n  erlmcp tools list --view weather",
	}
	a := adminFlags(s, c)
	c.Flags().StringVar(&view, "view", "", "a view's or a server's name; everything when left out")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := gatewayv1.NewGatewayServiceClient(conn).ListTools(ctx, &gatewayv1.ListToolsRequest{View: view})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, t := range resp.GetTools() {
				f := t.GetFields()
				rows = append(rows, []string{f["name"].GetStringValue(), arguments(f["inputSchema"]), firstSentence(f["description"].GetStringValue())})
			}
			return a.show(resp, []string{"NAME", "ARGUMENTS", "DESCRIPTION"}, rows)
		})
	}
	return c
}

// arguments names a tool's arguments, as its schema lists them; those it needs not in brackets.
func arguments(schema *structpb.Value) string {
	required := map[string]bool{}
	for _, v := range schema.GetStructValue().GetFields()["required"].GetListValue().GetValues() {
		required[v.GetStringValue()] = true
	}
	var needed, others []string
	for name := range schema.GetStructValue().GetFields()["properties"].GetStructValue().GetFields() {
		if required[name] {
			needed = append(needed, name)
		} else {
			others = append(others, "["+name+"]")
		}
	}
	return strings.Join(sorted(needed, others), " ")
}

func firstSentence(text string) string {
	const most = 100
	text, _, _ = strings.Cut(text, "\n")
	if first, _, more := strings.Cut(text, ". "); more {
		text = first
	}
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}

func toolsCallCommand(s *System) *cobra.Command {
	var view string
	c := &cobra.Command{
		Use: "call NAME [ARGUMENTS]", Short: "Call a tool, as a modern client would",
		Long:    "Call a tool. ARGUMENTS is a JSON object, or - to read it from standard input; {} when left out.\nPrints the tool's result; ends with 1 when the tool failed.",
		Example: "  erlmcp tools call weather_forecast '{\"city\": \"Oslo\"}'\n  erlmcp tools call files_read - < arguments.json",
		Args:    takes(1, 2, "a NAME and ARGUMENTS"),
	}
	a := adminFlags(s, c)
	a.completes(c, toolNames)
	c.Flags().StringVar(&view, "view", "", "a view's or a server's name; everything when left out")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		req := &gatewayv1.CallToolRequest{View: view, Name: args[0]}
		if len(args) == 2 {
			var err error
			if req.Arguments, err = readArguments(s.In, args[1]); err != nil {
				return err
			}
		}
		return a.do(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
			resp, err := gatewayv1.NewGatewayServiceClient(conn).CallTool(ctx, req)
			if err != nil {
				return err
			}
			fields := resp.GetResult().GetFields()
			texts, onlyText := textContent(fields["content"])
			switch {
			case a.output == "json" || !onlyText:
				err = printJSON(s.Out, resp.GetResult())
			default:
				_, err = fmt.Fprintln(s.Out, strings.Join(texts, "\n"))
			}
			if err == nil && fields["isError"].GetBoolValue() {
				return errors.New("the tool failed; its result says why")
			}
			return err
		})
	}
	return c
}

func readArguments(in io.Reader, text string) (*structpb.Struct, error) {
	const most = 16 << 20
	if text == "-" {
		data, err := io.ReadAll(io.LimitReader(in, most+1))
		if err != nil {
			return nil, fmt.Errorf("read the arguments: %w", err)
		}
		if len(data) > most {
			return nil, errors.New("the arguments are longer than 16 MiB")
		}
		text = string(data)
	}
	object := &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(text), object); err != nil {
		return nil, usagef("the arguments are no JSON object; write them like '{\"name\": \"value\"}'")
	}
	return object, nil
}

// textContent returns a result's texts, and whether it holds nothing else.
func textContent(content *structpb.Value) (texts []string, only bool) {
	for _, item := range content.GetListValue().GetValues() {
		f := item.GetStructValue().GetFields()
		if f["type"].GetStringValue() != "text" {
			return nil, false
		}
		texts = append(texts, f["text"].GetStringValue())
	}
	return texts, len(texts) > 0
}
