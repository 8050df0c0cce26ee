// Package openapi holds the OpenAPI document of the REST API, generated from the services' definitions.
package openapi

import _ "embed"

// Document is the OpenAPI 2.0 document, in JSON.
//
//go:embed erlmcp.swagger.json
var Document []byte
