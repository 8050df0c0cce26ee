package app_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"erlmcp.dev/cmd/erlmcp/internal/app"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/services/registry/store/sqlite"
	"erlmcp.dev/shared/config"
)

// kept is a data directory with a store that takes a while to be copied.
func kept(t *testing.T) config.Config {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "erlmcp.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	large := &store.Server{
		Spec:  &registryv1.Server{Name: "large", Endpoint: &registryv1.Server_Http{Http: &registryv1.HttpEndpoint{Url: "http://x"}}},
		Offer: &registryv1.Offer{Instructions: strings.Repeat("x", 8<<20)},
	}
	if _, err := s.Change(t.Context(), func(tx store.Tx) error { return tx.PutServer(t.Context(), large, nil) }); err != nil {
		t.Fatal(err)
	}
	return config.Config{DataDir: dir}
}

func TestABackupIsAtNoMomentForOthersToRead(t *testing.T) {
	cfg, to := kept(t), filepath.Join(t.TempDir(), "backup.db")
	done := make(chan error, 1)
	go func() { done <- app.Backup(t.Context(), cfg, to) }()
	for {
		if about, err := os.Stat(to); err == nil && about.Mode().Perm()&0o077 != 0 {
			t.Fatalf("the mode is %v; %v", about.Mode(), <-done)
		}
		select {
		case err := <-done:
			about, missing := os.Stat(to)
			if err != nil || missing != nil || about.Size() < 8<<20 {
				t.Errorf("%v, %v", err, missing)
			}
			return
		default:
		}
	}
}

func TestABackupReplacesNoFile(t *testing.T) {
	cfg, to := kept(t), filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(to, []byte("mine"), fs.FileMode(0o644)); err != nil {
		t.Fatal(err)
	}
	if err := app.Backup(t.Context(), cfg, to); err == nil || !strings.Contains(err.Error(), "new file") {
		t.Errorf("got %v", err)
	}
	if still, err := os.ReadFile(to); string(still) != "mine" {
		t.Errorf("now it is %q, %v", still, err)
	}
}
