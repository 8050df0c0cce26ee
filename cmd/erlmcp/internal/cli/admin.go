package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// defaultAddr is where `erlmcp up`, and a gateway, answer gRPC.
const defaultAddr = "127.0.0.1:9101"

// admin is what the commands share that talk gRPC.
type admin struct {
	system  *System
	addr    string
	key     string
	tls     bool
	ca      string
	timeout time.Duration
	output  string
}

// adminFlags adds the flags of a command that talks gRPC.
func adminFlags(s *System, c *cobra.Command) *admin {
	a := &admin{system: s}
	outputFlag(c, &a.output)
	f := c.Flags()
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "longest time to wait")
	if s.console != nil { // it is connected already
		a.addr, a.key, a.tls, a.ca = s.console.addr, s.console.key, s.console.tls, s.console.ca
		return a
	}
	a.connectionFlags(f)
	return a
}

// connectionFlags adds the flags that say where erlmcp is and who asks.
func (a *admin) connectionFlags(f *pflag.FlagSet) {
	f.StringVar(&a.addr, "addr", "", "`host:port` of erlmcp's gRPC (ERLMCP_ADDR; default "+defaultAddr+")")
	f.StringVar(&a.key, "key", "", "API `key` with the role admin or viewer (ERLMCP_API_KEY, which other users can't see)")
	f.BoolVar(&a.tls, "tls", false, "use TLS")
	f.StringVar(&a.ca, "ca", "", "with TLS: PEM `file` of the authorities to trust; the system's when left out")
}

// lookup is a variable of the environment.
func (s *System) lookup(name string) string {
	for _, kv := range s.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

// apiKey is the key that the environment gives; empty where it gives none.
func (s *System) apiKey() (string, error) {
	if key := s.lookup("ERLMCP_API_KEY"); key != "" {
		return key, nil
	}
	path := s.lookup("ERLMCP_API_KEY_FILE")
	if path == "" {
		return "", nil
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("ERLMCP_API_KEY_FILE: %w", err)
	}
	return strings.TrimSpace(string(key)), nil
}

// do connects, and calls what the command does. Its errors say what to do.
func (a *admin) do(ctx context.Context, call func(context.Context, grpc.ClientConnInterface) error) error {
	if err := checkOutput(a.output); err != nil {
		return err
	}
	conn, err := a.connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	if a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	if a.key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+a.key)
	}
	return a.explain(call(ctx, conn))
}

// connect fills in what the environment says, and opens the connection.
func (a *admin) connect() (*grpc.ClientConn, error) {
	if a.addr == "" {
		a.addr = a.system.lookup("ERLMCP_ADDR")
	}
	if a.addr == "" {
		a.addr = defaultAddr
	}
	if a.key == "" {
		var err error
		if a.key, err = a.system.apiKey(); err != nil {
			return nil, err
		}
	}
	creds, err := a.credentials()
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(creds), grpc.WithNoProxy()}
	if a.system.console != nil {
		options = append(options, grpc.WithUnaryInterceptor(a.system.console.teach))
	}
	conn, err := grpc.NewClient(a.addr, options...)
	if err != nil {
		return nil, usagef("--addr %q is no address: %w", a.addr, err)
	}
	return conn, nil
}

func (a *admin) credentials() (credentials.TransportCredentials, error) {
	if !a.tls && a.ca == "" {
		return insecure.NewCredentials(), nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.ca != "" {
		pem, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca: %s holds no certificate", a.ca)
		}
	}
	return credentials.NewTLS(conf), nil
}

// explain turns a gRPC error into a line that says what to do.
func (a *admin) explain(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("no answer from %s: %s; start erlmcp there, or give its --addr", a.addr, reason(st.Message()))
	case codes.Unauthenticated:
		return fmt.Errorf("%s; give an API key by ERLMCP_API_KEY or --key", oneLine(st.Message()))
	case codes.PermissionDenied:
		return fmt.Errorf("%s; use a key with the role admin", oneLine(st.Message()))
	case codes.Unimplemented:
		return fmt.Errorf("%s does not serve this; give the --addr of the service that does, or of a gateway", a.addr)
	case codes.DeadlineExceeded:
		return fmt.Errorf("no answer within %s; give a longer --timeout", a.timeout)
	}
	return errors.New(oneLine(st.Message()))
}

// reason shortens what gRPC says of a connection that failed.
func reason(message string) string {
	message = strings.TrimPrefix(message, `connection error: desc = "`)
	message = strings.TrimPrefix(message, "transport: Error while dialing: ")
	return strings.TrimSuffix(oneLine(message), `"`)
}

// show writes an answer as JSON, or as the table that it is given.
func (a *admin) show(m proto.Message, head []string, rows [][]string) error {
	if a.output == "json" {
		return printJSON(a.system.Out, m)
	}
	return table(a.system.Out, head, rows)
}

// done confirms what has been done, unless JSON is wanted.
func (a *admin) done(m proto.Message, format string, args ...any) error {
	if a.output == "json" {
		return printJSON(a.system.Out, m)
	}
	_, err := fmt.Fprintf(a.system.Out, format+"\n", args...)
	return err
}
