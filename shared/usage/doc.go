// Package usage is what each node tells the metrics service: how much was called ([Recorder]) and that it lives
// ([Heartbeat]), which administrative acts it saw ([Auditor]) and what became of sessions ([Historian]). What it tells
// waits in a spool on disk until the service has it. None makes a caller wait for the service, or fail without it. It must
// not know how calls are made, nor what the service does with the counts.
package usage
