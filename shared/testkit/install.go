package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// findRedis is the path of redis-server, installed where need be.
func findRedis(ctx context.Context) (string, error) {
	return found(ctx, func() string {
		path, _ := exec.LookPath("redis-server")
		return path
	}, "redis-server")
}

// findPostgres is the directory of postgres and initdb, installed where need be. Debian keeps them out of the
// PATH, in a directory for each version.
func findPostgres(ctx context.Context) (string, error) {
	return found(ctx, func() string {
		if path, err := exec.LookPath("initdb"); err == nil {
			if path, err = filepath.EvalSymlinks(path); err == nil {
				if dir := filepath.Dir(path); executable(filepath.Join(dir, "postgres")) {
					return dir
				}
			}
		}
		dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
		dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !executable(filepath.Join(dir, "postgres")) })
		if len(dirs) == 0 {
			return ""
		}
		return slices.MaxFunc(dirs, func(a, b string) int { return debianVersion(a) - debianVersion(b) })
	}, "postgresql")
}

// Program is the path of a program that a test needs, installed from its Debian package where that can be done.
func Program(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := found(t.Context(), func() string {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		if path := "/usr/sbin/" + name; executable(path) { // not in everyone's PATH
			return path
		}
		return ""
	}, pkg)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// debianVersion is the 15 of /usr/lib/postgresql/15/bin.
func debianVersion(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return version
}

// found is what look finds, now or after the installation of the Debian package pkg.
func found(ctx context.Context, look func() string, pkg string) (string, error) {
	if path := look(); path != "" {
		return path, nil
	}
	err := locked("apt", func() error { // dpkg takes one at a time, and another test binary may just do it
		if look() != "" {
			return nil
		}
		return install(ctx, pkg)
	})
	if err != nil {
		return "", err
	}
	if path := look(); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%s was installed and its programs are not found", pkg)
}

func install(ctx context.Context, pkg string) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 || os.Getenv("ERLMCP_TEST_INSTALL") == "0" {
		return fmt.Errorf("tests need %s: run sudo apt-get install -y redis-server postgresql", pkg)
	}
	try := func(args ...string) error {
		command := exec.CommandContext(ctx, apt, append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)...) // another may be at it
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		return run(command)
	}
	if err = try("install", "-y", "--no-install-recommends", pkg); err == nil {
		return nil
	}
	if err = try("update"); err == nil { // the lists of a fresh machine are empty
		err = try("install", "-y", "--no-install-recommends", pkg)
	}
	if err != nil {
		return fmt.Errorf("tests need %s, and installing it failed: %w", pkg, err)
	}
	return nil
}
