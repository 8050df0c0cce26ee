// Package tasks keeps tasks (SEP-2663): calls that took long and go on behind their answer. A task's state is in the
// store before anyone is told of it, so that every process can show it; the call itself runs at the task's owner. An
// owner that dies is replaced by the process that is asked for the task next: it carries the call out again where
// that repeats nothing, and else says that the outcome is unknown. No task stays as it is for ever: each has a time
// to live, and then it is gone.
//
// It must not know how a call is carried out (services/session/owner has that). Start at [Keeper].
package tasks
