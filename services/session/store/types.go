package store

import (
	"encoding/json"
	"time"
)

// Node is a process that owns sessions.
type Node struct {
	// Name is unique in the cluster.
	Name string
	// Address is host:port, where other processes reach it.
	Address string
}

// Lease is a node's proof that it lives, until it runs out.
type Lease struct {
	Node Node
	// ID tells this lease from others of the same node.
	ID  string
	TTL time.Duration
}

// Record is what is kept of a session. All but UsedAt and State stay as they were created.
type Record struct {
	// ID is a UUID.
	ID string
	// Principal is whom the session belongs to.
	Principal string
	// Version is the protocol revision.
	Version string
	View    string
	// Capabilities and ClientInfo are JSON.
	Capabilities json.RawMessage
	ClientInfo   json.RawMessage
	// CreatedAt and UsedAt are the store's time, in milliseconds.
	CreatedAt, UsedAt time.Time
	// State is values that mean something to the owner alone, such as "level", "subs", "upstream/weather".
	State map[string][]byte
}

// Changes are made to a session's state in one step.
type Changes struct {
	Set    map[string][]byte
	Remove []string
}

// Owner is who holds a session.
type Owner struct {
	Node string
	// Address is empty when the node's lease is gone.
	Address string
	Epoch   uint64
	// Alive: the node's lease has not run out.
	Alive bool
	// Lease is the lease's ID, for Leave to end it in the node's stead; empty when it is gone, and in a List.
	Lease string
	// Released: the node gave the session up.
	Released bool
}

// Holds tells that the owner lives and has not given the session up: nobody else may claim it.
func (o Owner) Holds() bool { return o.Alive && !o.Released }

// Session is a record with its owner.
type Session struct {
	Record
	Owner Owner
}

// Hold names a session and the epoch that an owner holds it at.
type Hold struct {
	ID    string
	Epoch uint64
}

// Event is one message of a stream.
type Event struct {
	Seq     uint64
	Message []byte
}

// Page is a part of a stream.
type Page struct {
	Events []Event
	// Closed: the stream is closed and these are its last events.
	Closed bool
}

// ResultKey names a call: a principal's own key, of 1 to 256 bytes.
type ResultKey struct {
	Principal, Key string
}

// Result is what is known of a call under a key.
type Result struct {
	State ResultState
	// Answer is what the call gave, where it is Answered.
	Answer []byte
}

// ResultState says how far a call came.
type ResultState string

// The states of a call under a key.
const (
	Reserved  ResultState = "reserved"  // by the one who asks
	UnderWay  ResultState = "working"   // by another one
	Abandoned ResultState = "abandoned" // by one who is gone
	Answered  ResultState = "answered"
)

// Task is what is kept of a task.
type Task struct {
	// ID is a UUID.
	ID string
	// Principal is whom the task belongs to.
	Principal string
	// Spec means something to the owner alone, and stays as it was created.
	Spec []byte
	// State means something to the owner alone.
	State []byte
}

// HeldTask is a task with its owner.
type HeldTask struct {
	Task
	Owner Owner
}
