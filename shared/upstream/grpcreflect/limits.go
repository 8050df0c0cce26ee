package grpcreflect

import "time"

// What one server's descriptors may take. A server beyond a limit is not offered at all, with an error that
// names the limit: half an offer would look like a whole one.
const (
	maxServices        = 1024
	maxMethods         = 4096
	maxFiles           = 4096
	maxDescriptorBytes = 32 << 20
	maxOfferBytes      = 32 << 20
)

// What one schema may take. Beyond it parts are described as open objects, which is true of them too.
const (
	maxSchemaBytes = 256 << 10
	maxSchemaTypes = 512
	maxSchemaNames = 96 << 10 // of it for names and structure
	maxSchemaText  = 64 << 10 // of it for descriptions
	maxInlineDepth = 6        // deeper messages go to $defs
	maxOneofRules  = 8        // members of a oneof whose exclusion is spelt out
)

// What texts made from comments and answers may take, in bytes.
const (
	maxComment      = 1 << 10
	maxToolComment  = 4 << 10
	maxInstructions = 8 << 10
	maxStatusText   = 8 << 10
	maxStatusDetail = 64 << 10
	maxProgressText = 4 << 10
)

// maxDepth is how deep the messages of an answer may nest. It keeps results below jsonrpc.MaxDepth.
const maxDepth = 100

// rereadAfter is how old descriptors must be to be read again because a call did not fit them. It keeps
// clients with bad arguments from causing a load of reflection.
const rereadAfter = 10 * time.Second
