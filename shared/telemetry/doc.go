// Package telemetry makes what a process says about itself: its log and its Prometheus series, which it also sends to a
// collector. It must not know sessions, catalogues or clients; whoever owns those reports here. Start at [NewLog] and
// [NewMetrics].
package telemetry
