package stdio

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ownGroup gives a program a process group of its own, so that all it starts can be ended with it, and has the
// kernel end it should this process and its watchdog be killed together.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// maxSweeps bounds a race with processes that start others.
const maxSweeps = 100

// killMarked kills every process in whose environment a variable begins with mark, as far as this user may.
func killMarked(mark string) {
	for range maxSweeps {
		if sweep(mark) == 0 {
			return
		}
	}
}

// sweep kills those that are there now, and says how many they were.
func sweep(mark string) (killed int) {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is well-formed
	for _, path := range environments {
		env, err := os.ReadFile(path)
		if err != nil || !marked(env, mark) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && pid != os.Getpid() && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

// marked reports whether a variable is mark, or begins with one that ends in "-".
func marked(env []byte, mark string) bool {
	for variable := range bytes.SplitSeq(env, []byte{0}) {
		if rest, ok := bytes.CutPrefix(variable, []byte(mark)); ok && (len(rest) == 0 || mark[len(mark)-1] == '-') {
			return true
		}
	}
	return false
}
