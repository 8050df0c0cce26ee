package stdio

import "syscall"

// ownGroup gives a program a process group of its own, so that all it starts can be ended with it, and has the
// kernel end it should this process be killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(pid int, signal syscall.Signal) { _ = syscall.Kill(-pid, signal) }
