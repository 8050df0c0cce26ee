package grpcreflect

import (
	"crypto/sha256"
	"encoding/hex"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxName is the longest name of a tool that all clients take.
const maxName = 64

// nameTools returns a name for each method, by the rule of the package's documentation.
func nameTools(all []protoreflect.MethodDescriptor) []string {
	forms := []func(protoreflect.MethodDescriptor) string{
		func(m protoreflect.MethodDescriptor) string { return string(m.Name()) },
		func(m protoreflect.MethodDescriptor) string { return string(m.Parent().Name() + "_" + m.Name()) },
		// Has a dot, as no other form does, and is unique.
		func(m protoreflect.MethodDescriptor) string { return string(m.FullName()) },
	}
	names := make([]string, len(all))
	taken := map[string]bool{}
	for _, form := range forms {
		wanted := map[string]int{}
		for i, m := range all {
			if names[i] == "" {
				wanted[form(m)]++
			}
		}
		for i, m := range all {
			if name := form(m); names[i] == "" && wanted[name] == 1 && !taken[name] {
				names[i] = name
			}
		}
		for _, name := range names {
			taken[name] = true
		}
	}
	for i, name := range names {
		names[i] = shortName(name)
	}
	return names
}

// shortName returns name, or where it is too long its start and eight digits of its SHA-256.
func shortName(name string) string {
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxName-9] + "_" + hex.EncodeToString(sum[:4])
}
