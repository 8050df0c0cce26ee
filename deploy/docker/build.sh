#!/bin/sh
# Compiles the program of the image: build.sh FILE. VERSION, VCS_REF and BUILD_DATE are what `erlmcp versions` says;
# GOOS and GOARCH compile across. The same sources, variables and Go give the same bytes: no paths, no clock, no version
# control, no C. The program's own module decides on versions; the workspace is for those who work on it.
set -eu
case ${1:-} in
/*) out=$1 ;;
*) echo "build.sh: name the file to write by its whole path" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/../../cmd/erlmcp"
build=erlmcp.dev/cmd/erlmcp/internal/build
GOWORK=off GOFLAGS='' CGO_ENABLED=0 exec go build -trimpath -buildvcs=false -o "$out" \
	-ldflags "-s -w -X $build.Version=${VERSION:-3.0.0} -X $build.Commit=${VCS_REF:-} -X $build.Date=${BUILD_DATE:-}" .
