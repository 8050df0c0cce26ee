// Package usage is what each node tells the metrics service: how much was called ([Recorder]) and that it lives
// ([Heartbeat]), and which administrative acts it saw ([Auditor]). Counts and acts wait in a spool on disk until the service has them. It must not know how calls are made, nor what the service does with the counts. Neither ever makes a
// caller wait for the service, or fail without it.
package usage
