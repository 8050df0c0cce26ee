package config

import "strings"

// Role is a service that a process runs.
type Role string

// Roles.
const (
	RoleGateway  Role = "gateway"
	RoleSession  Role = "session"
	RoleRegistry Role = "registry"
	RoleMetrics  Role = "metrics"
)

// Roles lists all roles, in the order of their gRPC ports.
func Roles() []Role { return []Role{RoleGateway, RoleSession, RoleRegistry, RoleMetrics} }

// grpcOffset is how far a process's gRPC port is from ports.dist: that of its first role.
func grpcOffset(roles []Role) int {
	for i, r := range Roles() {
		for _, have := range roles {
			if have == r {
				return i + 1
			}
		}
	}
	return 1
}

func roleNames(roles []Role) string {
	if len(roles) == 0 || len(roles) == len(Roles()) {
		return "all"
	}
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
