//go:build !linux

package stdio

import "syscall"

// ownGroup gives a program a process group of its own, so that all it starts can be ended with it.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(pid int, signal syscall.Signal) { _ = syscall.Kill(-pid, signal) }
