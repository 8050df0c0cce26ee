# The image of erlmcp: one static program, run as up (everything in one process) or as one role.
#
#   docker build -t erlmcp:3.0.0 -f Dockerfile .
#   docker buildx build --platform linux/amd64,linux/arm64 ...    # cross-compiled, nothing is emulated
#
# The base has no shell of its own. A static BusyBox brings the few commands that operators call inside
# (sh env cat nc nslookup tar wget ...): one file of 2 MB, instead of a distribution with packages to patch.

# What it is built with and on. Tags get the fixes of their line; who wants the same bytes for good names digests:
#   --build-arg GO_IMAGE=golang:1.26-bookworm@sha256:... --build-arg BASE_IMAGE=...@sha256:...
ARG GO_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot

# What `make` needs, for the quality lanes of compose: docker compose run --rm erlmcp-unit make eunit.
FROM --platform=$BUILDPLATFORM $GO_IMAGE AS toolchain
RUN apt-get update \
 && apt-get install -y --no-install-recommends git make postgresql redis-server shellcheck \
 && rm -rf /var/lib/apt/lists/* \
 && git config --system --add safe.directory /src
WORKDIR /src

FROM --platform=$BUILDPLATFORM $GO_IMAGE AS build
ENV GOWORK=off CGO_ENABLED=0
# Reads what is in a program, and writes it as CycloneDX. The version is the Makefile's.
RUN --mount=type=cache,target=/root/.cache/go-build \
    go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
WORKDIR /src/cmd/erlmcp
# Modules change less often than code.
COPY cmd/erlmcp/go.mod cmd/erlmcp/go.sum ./
COPY examples/go.mod ../../examples/
COPY gateway/go.mod ../../gateway/
COPY proto/go.mod ../../proto/
COPY services/metrics/go.mod ../../services/metrics/
COPY services/registry/go.mod ../../services/registry/
COPY services/session/go.mod ../../services/session/
COPY shared/go.mod ../../shared/
RUN go mod download

COPY . /src
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=3.0.0
ARG VCS_REF
ARG BUILD_DATE
RUN --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH /src/deploy/docker/build.sh /out/erlmcp \
 && cyclonedx-gomod bin -json -noserial -notimestamp -std -version "$VERSION" -output /out/sbom.json /out/erlmcp

FROM --platform=$BUILDPLATFORM $GO_IMAGE AS image
ARG TARGETARCH
# The release that the names below were tried with, at whatever fixes Debian has for it.
ARG BUSYBOX_VERSION=1:1.35.0-*
RUN arch=${TARGETARCH:-$(dpkg --print-architecture)} \
 && dpkg --add-architecture "$arch" && apt-get update && cd /tmp \
 && apt-get download "busybox-static:$arch=$BUSYBOX_VERSION" && dpkg-deb -x busybox-static_*.deb /busybox
RUN mkdir -p /image/bin /image/opt/erlmcp/bin /image/opt/erlmcp/etc /image/opt/erlmcp/log /image/opt/erlmcp/releases /image/data \
      /image/var/lib /image/var/log \
 && cp /busybox/bin/busybox /image/bin/ \
 && for name in base64 cat date df du env free grep gzip head hostname id kill ls mkdir nc netstat nslookup od ps rm sed sh sleep sort \
      tail tar test timeout top touch tr wc wget; do ln -s busybox "/image/bin/$name"; done
COPY deploy/docker/healthcheck.sh /image/opt/erlmcp/bin/
COPY deploy/docker/nc.sh /image/opt/erlmcp/bin/nc
COPY --from=build /out/erlmcp /image/opt/erlmcp/bin/
ARG VERSION=3.0.0
# What is in the program, for those who look for a module with a known fault: as CycloneDX, and as Go tells it.
COPY --from=build /out/sbom.json /image/opt/erlmcp/releases/$VERSION/
RUN go version -m /image/opt/erlmcp/bin/erlmcp | sed 's|^/image||' > "/image/opt/erlmcp/releases/$VERSION/modules.txt" \
 && chmod 755 /image/opt/erlmcp/bin/* && find /image -exec touch -hd '2000-01-01T00:00:00Z' {} +

FROM $BASE_IMAGE AS runtime
COPY --from=image /image/bin/ /bin/
COPY --from=image /image/opt/ /opt/
COPY --from=image /image/var/ /var/
# What erlmcp writes: its data, and where others expect logs and run files. Everything else may be read-only.
COPY --from=image --chown=65532:65532 /image/data/ /var/lib/erlmcp/
COPY --from=image --chown=65532:65532 /image/data/ /var/log/erlmcp/
COPY --from=image --chown=65532:65532 /image/data/ /var/run/erlmcp/
ENV ERLMCP_ENV=production \
    ERLMCP_DATA_DIR=/var/lib/erlmcp \
    PATH=/opt/erlmcp/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 65532:65532
WORKDIR /opt/erlmcp
VOLUME /var/lib/erlmcp
# API and all transports; one transport each; health; metrics; gRPC of gateway (or up), session, registry, metrics.
EXPOSE 8080 8081 8082 8083 9090 9100 9101 9102 9103 9104
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=45s --retries=3 CMD ["/opt/erlmcp/bin/healthcheck.sh"]
ENTRYPOINT ["/opt/erlmcp/bin/erlmcp"]
CMD ["up"]
ARG VERSION=3.0.0
ARG VCS_REF
ARG BUILD_DATE
LABEL org.opencontainers.image.title="erlmcp" \
      org.opencontainers.image.description="Serves the Model Context Protocol to many clients, in front of any tools" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$VCS_REF" \
      org.opencontainers.image.created="$BUILD_DATE" \
      org.opencontainers.image.source="https://github.com/seanchatmangpt/erlmcp"
