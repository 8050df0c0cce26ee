#!/usr/bin/env bash
# Checks what deployments are made of without running it: check.sh DIRECTORY-OF-TOOLS. Chart: lint, every values file,
# the schema's refusals, the objects and names that operators rely on, and how they fit together (test/chart).
# Manifests: fresh. Both: valid for several releases of Kubernetes. The image's program: for arm64 too, the same bytes
# wherever it is built, and its bill of materials. Compose files: as docker's own programs read them, where they are
# installed; test/deploy reads them everywhere.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
helm=$1/helm validate=$1/kubectl-validate cyclonedx=$1/cyclonedx-gomod
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() {
	printf 'deploy-check: FAILED: %s\n' "$*" >&2
	exit 1
}
template() { "$helm" template erlmcp ./helm/erlmcp --namespace erlmcp --kube-version 1.32.0 "$@"; }
has() { # FILE KIND NAME
	awk -v kind="$2" -v name="$3" '
		/^---/ {k = ""} /^kind: / {k = $2} k == kind && /^  name: / && $2 == name {found = 1} END {exit !found}' "$1" ||
		die "$1 has no $2 $3"
}
refuses() { # REASON ARGUMENTS...
	local reason=$1
	shift
	! template "$@" > /dev/null 2> "$work/refused" || die "the chart takes $*"
	grep -q -- "$reason" "$work/refused" || die "the chart refuses $* without saying \"$reason\": $(cat "$work/refused")"
}
releases=(1.25 1.27 1.29 1.30)
valid() { # RELEASE FILE...
	"$validate" "${@:2}" --version "$1" > "$work/valid" 2>&1 || { cat "$work/valid"; die "not valid for Kubernetes $1"; }
}
rendered() { # NAME ARGUMENTS...: as it is looked at below, and for each release
	local release
	template "${@:2}" > "$work/$1.yaml"
	for release in "${releases[@]}"; do
		mkdir -p "$work/$release"
		template "${@:2}" --kube-version "$release.0" > "$work/$release/$1.yaml"
	done
}

"$helm" lint ./helm/erlmcp --quiet
rendered default
rendered prod --values helm/erlmcp/values-prod.yaml --set "erlmcp.erlang.cookie=$(openssl rand -base64 48 | tr -d '\n')"
rendered us-east --values helm/erlmcp/values-us-east.yaml
rendered us-west --values helm/erlmcp/values-us-west.yaml
rendered others --set networkPolicy.enabled=false --set tls.clients=true --set storage.enabled=true --set autoscaling.enabled=true \
	--set image.registry=registry.example.com --set 'servers[0].name=a' --set 'servers[0].url=https://a.example.com/mcp' \
	--set otel.endpoint=http://collector:4317 --set ingress.enabled=true --set database.password=secret --set database.caSecret=authority \
	--set postgres.persistence.whenDeleted=Delete
for release in "${releases[@]}"; do valid "$release" "$work/$release"/*.yaml; done
template --api-versions monitoring.coreos.com/v1 --set gatewayAPI.enabled=true --set 'gatewayAPI.parentRefs[0].name=edge' > "$work/operators.yaml"

for role in gateway session registry metrics; do
	for kind in StatefulSet PodDisruptionBudget; do has "$work/default.yaml" "$kind" "erlmcp-${role/gateway/cluster}"; done
	has "$work/default.yaml" Service "erlmcp-${role/gateway/headless}"
done
has "$work/default.yaml" Service erlmcp
has "$work/default.yaml" Secret erlmcp-secrets
has "$work/default.yaml" Secret erlmcp-db
has "$work/default.yaml" NetworkPolicy erlmcp-default-deny
has "$work/default.yaml" Job erlmcp-migrate
has "$work/default.yaml" Pod erlmcp-test-call
has "$work/default.yaml" StatefulSet erlmcp-postgres
has "$work/prod.yaml" HorizontalPodAutoscaler erlmcp-cluster
has "$work/prod.yaml" Ingress erlmcp
has "$work/operators.yaml" ServiceMonitor erlmcp
has "$work/operators.yaml" PrometheusRule erlmcp-alerts
has "$work/operators.yaml" HTTPRoute erlmcp
grep -q 'image: ghcr.io/your-org/erlmcp:3.0.0$' "$work/prod.yaml" || die "the image is not put together from registry, repository and tag"
! grep -Eq 'kind: (ServiceMonitor|PrometheusRule|HTTPRoute)' "$work/default.yaml" || die "objects of an operator's though there is none"
! grep -q 'name: erlmcp-postgres$' "$work/prod.yaml" || die "the bundled Postgres is in production"

refuses "additional properties 'replicaCoun'" --set erlmcp.replicaCoun=3
refuses "minLength" --set redis.enabled=false
refuses "minLength" --set postgres.enabled=false
refuses "the example's" --set erlmcp.erlang.cookie=change-me-to-secure-random-value
refuses "/erlmcp/erlang/cookie" --set erlmcp.erlang.cookie=short
refuses "must be below terminationGracePeriodSeconds" --set drainSeconds=55
(cd test && HELM=$(readlink -f "../$helm") go test -count=1 -tags helm ./chart) || die "test/chart"

mkdir "$work/k8s"
deploy/k8s/generate.sh "$helm" "$work/k8s"
for file in "$work"/k8s/*.yaml; do
	cmp "$file" "k8s/${file##*/}" || die "k8s/${file##*/} is stale: run make k8s-manifests"
done
manifests=()
for name in namespace rbac configmap statefulset service ingress hpa pdb network-policy monitoring; do manifests+=("k8s/$name.yaml"); done
for release in "${releases[@]}"; do valid "$release" "${manifests[@]}"; done
has k8s/statefulset.yaml StatefulSet erlmcp-cluster
has k8s/service.yaml Service erlmcp-headless

if docker compose version > /dev/null 2>&1; then
	docker compose config --quiet 2> "$work/compose" || { cat "$work/compose"; die "docker-compose.yml"; }
	docker compose --profile monitoring --profile quality config --quiet 2> "$work/compose" || { cat "$work/compose"; die "the profiles"; }
	docker compose --env-file .env.prod.template -f docker-compose.yml -f docker-compose.prod.yml config --quiet 2> "$work/compose" || { cat "$work/compose"; die "production"; }
	if docker stack config --help > /dev/null 2>&1; then
		docker stack config -c docker-compose.yml -c docker-compose.swarm.yml > /dev/null 2> "$work/compose" || { cat "$work/compose"; die "the stack"; }
	fi
	echo "compose files: as docker reads them"
else
	echo "compose files: docker compose is not installed here; read by the tests of test/deploy"
fi

program=$PWD/deploy/docker/build.sh
export VERSION=3.0.0 VCS_REF=0123456789ab BUILD_DATE=2000-01-01T00:00:00Z
GOOS=linux GOARCH=amd64 "$program" "$work/amd64"
GOOS=linux GOARCH=arm64 "$program" "$work/arm64"
[ "$(od -An -tx1 -j18 -N2 "$work/arm64")" = " b7 00" ] || die "what is built for arm64 is for something else"
# Again from a copy of the sources in another place, without version control.
mkdir -p "$work/another/place/src"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -c | tar -x -C "$work/another/place/src"
GOOS=linux GOARCH=arm64 "$work/another/place/src/deploy/docker/build.sh" "$work/again"
cmp "$work/arm64" "$work/again" || die "the same sources give another program elsewhere"
echo "program: amd64 and arm64, reproducible: $(sha256sum < "$work/arm64" | cut -c 1-16)"

for arch in amd64 arm64; do
	"$cyclonedx" bin -json -noserial -notimestamp -std -version "$VERSION" -output "$work/sbom.json" "$work/$arch"
	listed=$(grep -c '"type": "library"' "$work/sbom.json")
	modules=$(go version -m "$work/$arch" | awk '$1 == "dep"' | wc -l)
	grep -q '"bomFormat": "CycloneDX"' "$work/sbom.json" || die "the bill of materials is not CycloneDX"
	# The modules, and Go's own library.
	[ "$modules" -gt 20 ] || die "the program for $arch has only $modules modules"
	[ "$listed" = $((modules + 1)) ] || die "the program for $arch has $modules modules, its bill of materials $listed"
done
echo "bill of materials: $listed parts"
echo "chart and manifests: checked"
