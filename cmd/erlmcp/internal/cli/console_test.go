package cli_test

import (
	"strings"
	"testing"

	"erlmcp.dev/cmd/erlmcp/internal/cli"
)

func TestTheConsoleRunsLinesAndTeachesGrpcurl(t *testing.T) {
	_, addr := serveAt(t)
	r := run(t, []string{"remote_console"}, func(s *cli.System) {
		s.Environ = append(s.Environ, "ERLMCP_ADDR="+addr, "ERLMCP_API_KEY=admin-key")
		s.In = strings.NewReader("# a comment\n\nerlmcp servers remove files\nservers remove nobody's\nservers remove nobody\n" +
			"tools call echo '{\"text\": \"it works\"}'\nkeys create ci --role viewer\nexit\nservers list\n")
	})
	if r.code != 1 || r.out != "server files removed\nit works\nerlmcp_k1_s\n" {
		t.Errorf("exit %d, printed %q", r.code, r.out)
	}
	for _, want := range []string{
		`# grpcurl -plaintext -H "authorization: Bearer $ERLMCP_API_KEY" -d '{"name":"files"}' ` + addr + " erlmcp.registry.v1.RegistryService/DeleteServer\n",
		"a quote is not closed",
		"there is no server \"nobody\"",
	} {
		if !strings.Contains(r.err, want) {
			t.Errorf("no %q in:\n%s", want, r.err)
		}
	}
	if strings.Contains(r.err, "admin-key") {
		t.Error("the key was shown")
	}
}

func TestTheConsoleNeedsSomeoneWhoAnswers(t *testing.T) {
	r := run(t, []string{"remote_console", "--addr", "127.0.0.1:1"}, nil)
	if r.code != 1 || !strings.Contains(r.err, "no answer from 127.0.0.1:1") {
		t.Errorf("%+v", r)
	}
}

func TestShellsCompleteNamesThatErlmcpKnows(t *testing.T) {
	_, erlmcp := serve(t)
	for args, want := range map[string]string{
		"servers remove f":   "files\n",
		"servers refresh ":   "files\nweather\n",
		"tools call ":        "_echo\n",
		"keys revoke k":      "k1\n",
		"sessions show s000": "s0000\n",
		"serv":               "servers\t",
	} {
		words := strings.Split(args, " ")
		if r := erlmcp(append([]string{"__complete"}, words...)...); !strings.HasPrefix(r.out, want) {
			t.Errorf("%q completes to %q", args, r.out)
		}
	}
}
