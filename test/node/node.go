// Package node installs pinned npm packages, and the Node that runs them, into a directory of their own, so that a
// test depends on no Node but for the npm that installs. It must not know what is installed.
package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Packages are a package.json and its package-lock.json; among them must be the package node.
type Packages struct {
	JSON, Lock []byte
}

// Modules is a directory with installed packages.
type Modules struct{ dir string }

// Install puts packages into dir by `npm ci`, unless the same are there already. Of several processes that
// install to one directory at the same time, one works and the others wait. ctx bounds npm's work.
func Install(ctx context.Context, dir string, packages Packages) (*Modules, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // and with it goes the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	// Written last, so that a broken installation is made again; its content, so that a new pin is too.
	stamp := filepath.Join(dir, "installed")
	want := append(bytes.Clone(packages.JSON), packages.Lock...)
	if have, err := os.ReadFile(stamp); err == nil && bytes.Equal(have, want) {
		return &Modules{dir}, nil
	}
	for name, content := range map[string][]byte{"package.json": packages.JSON, "package-lock.json": packages.Lock} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return nil, err
		}
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("install npm packages in %s (npm ci): %w\n%s", dir, err, out)
	}
	return &Modules{dir}, os.WriteFile(stamp, want, 0o644)
}

// Node is the path of the installed Node.
func (m *Modules) Node() string { return m.Path("node", "bin", "node") }

// Path is a file of an installed package.
func (m *Modules) Path(pkg string, file ...string) string {
	return filepath.Join(append([]string{m.dir, "node_modules", filepath.FromSlash(pkg)}, file...)...)
}

// Dir is the directory that the packages were installed to: scripts in it find them by name.
func (m *Modules) Dir() string { return m.dir }
