#!/bin/sh
# Ends with 0 when the erlmcp in this container is healthy or degraded; else says why and ends with 1.
exec /opt/erlmcp/bin/erlmcp ping --timeout 5s
