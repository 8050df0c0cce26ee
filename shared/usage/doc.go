// Package usage is what each node tells the metrics service: how much was called ([Recorder]) and that it lives
// ([Heartbeat]). It must not know how calls are made, nor what the service does with the counts. Neither ever makes a
// caller wait for the service, or fail without it.
package usage
