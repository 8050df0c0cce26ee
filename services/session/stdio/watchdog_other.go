//go:build !linux

package stdio

import "syscall"

// ownGroup gives a program a process group of its own, so that all it starts can be ended with it.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killMarked does nothing: other processes' environments can't be read here.
func killMarked(string) {}
