package describe_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/jsonrpc"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/describe"
	"erlmcp.dev/shared/upstream/mcphttp"
)

// modernOnly answers as a modern server with one tool does; empty for what it does not know.
func modernOnly(message []byte) string {
	result := ""
	switch method, _ := jsonrpc.GetString(message, "method"); method {
	case "server/discover":
		result = `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}`
	case "tools/list":
		result = `{"tools":[{"name":"only"}]}`
	default:
		return ""
	}
	return string(jsonrpc.Response(jsonrpc.Get(message, "id"), []byte(result)))
}

// roundTrip is a server without a network.
type roundTrip func(r *http.Request, body []byte) (string, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	answer, err := f(r, body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(answer)), ContentLength: int64(len(answer)),
	}, nil
}

func expectModernOnly(t *testing.T, offer *registryv1.Offer, err error) {
	t.Helper()
	if err != nil || len(offer.GetEras()) != 1 || offer.GetEras()[0] != registryv1.Era_ERA_MODERN || len(offer.GetTools()) != 1 {
		t.Errorf("%v, %v", offer, err)
	}
}

// What a modern server makes of initialize must not keep it from being described.
func TestAModernServerIsDescribedWhateverItMakesOfInitialize(t *testing.T) {
	for name, initialize := range map[string]func(ctx context.Context) error{
		"it never answers": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"it breaks":        func(context.Context) error { return errors.New("broken") },
	} {
		t.Run("HTTP: "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				offer, err := describe.HTTP(ctx, mcphttp.Config{URL: "http://in.memory/", Transport: roundTrip(func(r *http.Request, body []byte) (string, error) {
					if answer := modernOnly(body); answer != "" {
						return answer, nil
					}
					return "", initialize(r.Context())
				})}, describe.Client{})
				expectModernOnly(t, offer, err)
			})
		})
	}
	for name, second := range map[string]func() (io.ReadWriteCloser, error){
		"it never answers": func() (io.ReadWriteCloser, error) { return played(func([]byte) string { return "" }), nil },
		"two are one too many": func() (io.ReadWriteCloser, error) {
			return nil, errors.New("the file is locked")
		},
	} {
		t.Run("stream: "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				dialled := 0
				offer, err := describe.Stream(ctx, func(context.Context) (io.ReadWriteCloser, error) {
					if dialled++; dialled == 1 {
						return played(modernOnly), nil
					}
					return second()
				}, describe.Client{})
				expectModernOnly(t, offer, err)
			})
		})
	}
}

// played is a program that answers by a function.
func played(answer func(message []byte) string) io.ReadWriteCloser {
	ours, theirs := net.Pipe()
	go func() {
		in := bufio.NewScanner(theirs)
		for in.Scan() {
			if line := answer(in.Bytes()); line != "" {
				_, _ = fmt.Fprintln(theirs, line)
			}
		}
		_ = theirs.Close()
	}()
	return ours
}

// Items keep the page in memory that they came with: all of it counts.
func TestWhatStandsBesideTheItemsCountsToo(t *testing.T) {
	page, pages := strings.Repeat("x", 8<<20), 0
	_, err := describe.HTTP(t.Context(), mcphttp.Config{URL: "http://in.memory/", Transport: roundTrip(func(_ *http.Request, body []byte) (string, error) {
		if method, _ := jsonrpc.GetString(body, "method"); method != "tools/list" {
			return modernOnly(body), nil
		}
		pages++
		result := fmt.Sprintf(`{"tools":[{"name":"t%d"}],"nextCursor":"more","_meta":{"x":%q}}`, pages, page)
		return string(jsonrpc.Response(jsonrpc.Get(body, "id"), []byte(result))), nil
	})}, describe.Client{})
	if !errors.Is(err, upstream.ErrTooLarge) || pages > 10 {
		t.Errorf("%d pages of %d bytes: %v", pages, len(page), err)
	}
}
