#!/usr/bin/env bash
# Tests the Helm chart and the plain manifests on a real cluster: install, helm test, upgrade, rollback, scaling and a
# node's drain under load without a failed call, uninstall that leaves nothing, an install on volumes that stayed; then
# the manifests likewise.
set -euo pipefail

usage() {
	cat <<'USAGE'
k8s-test.sh [--dry-run] [--only helm|manifests]

Works on the cluster of KUBECONFIG, in the namespace erlmcp, which it makes and deletes; it must not be there before.
Images must be loaded in the cluster, or be there to pull: erlmcp:3.0.0, redis:7-alpine, postgres:16-alpine.

  ERLMCP_TEST_IMAGE   erlmcp's image (erlmcp:3.0.0)
  ERLMCP_NEXT_TAG     tag of a newer one to upgrade to; without it pods are replaced by a change of configuration
  REDIS_IMAGE, POSTGRES_IMAGE
  HELM, KUBECTL       programs (helm, or the one in .build/bin; kubectl)
  K8S_TEST_TIMEOUT    longest time of one step in seconds (420)

Ends with 0 when everything passed, 1 when something failed, 3 when there is no cluster to test on.
USAGE
}

only='' dry=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--only) only=${2:?--only needs helm or manifests}; shift ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
kubectl=${KUBECTL:-kubectl}
helm=${HELM:-$(command -v helm || echo "$root/.build/bin/helm")}
image=${ERLMCP_TEST_IMAGE:-erlmcp:3.0.0}
next=${ERLMCP_NEXT_TAG:-}
redis=${REDIS_IMAGE:-redis:7-alpine} postgres=${POSTGRES_IMAGE:-postgres:16-alpine}
timeout=${K8S_TEST_TIMEOUT:-420}
namespace=erlmcp release=erlmcp
key="erlmcp_$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')_$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
work=$(mktemp -d)
cordoned='' made=''

k() { "$kubectl" --namespace "$namespace" "$@"; }
say() { printf '\n=== %s (%s s)\n' "$*" "$SECONDS"; }
die() {
	printf 'k8s-test: FAILED: %s\n' "$*" >&2
	exit 1
}

if [ -n "$dry" ]; then
	echo "would test $image in the namespace $namespace of: $("$kubectl" config current-context 2>/dev/null || echo 'no cluster')"
	exit 0
fi
command -v "$kubectl" > /dev/null || { echo "k8s-test: NOT RUN: there is no kubectl"; exit 3; }
command -v "$helm" > /dev/null || { echo "k8s-test: NOT RUN: there is no helm; make .build/bin/.helm installs it"; exit 3; }
"$kubectl" --request-timeout=10s get nodes > /dev/null 2>&1 || {
	echo "k8s-test: NOT RUN: no cluster answers; set KUBECONFIG to one that may be tested on"
	exit 3
}
! "$kubectl" get namespace "$namespace" > /dev/null 2>&1 ||
	die "the namespace $namespace is there already, and this test would delete it"

report() {
	echo "--- what the cluster says"
	k get pods -o wide || true
	k get events --sort-by=.lastTimestamp 2>/dev/null | tail -n 30 || true
	for pod in $(k get pods -o name 2>/dev/null); do
		echo "--- $pod"
		k logs "$pod" --all-containers --tail=25 2>/dev/null || true
		k logs "$pod" --all-containers --tail=10 --previous 2>/dev/null || true
	done
}
finish() {
	local code=$?
	trap - EXIT
	set +e
	[ -z "$cordoned" ] || "$kubectl" uncordon "$cordoned"
	if [ -n "$made" ]; then
		[ "$code" = 0 ] || report
		"$kubectl" delete namespace "$namespace" --ignore-not-found --timeout=180s
	fi
	rm -rf "$work"
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

make_namespace() {
	"$kubectl" apply -f "$root/deploy/k8s/namespace.yaml"
	made=yes
}
rolled_out() { # ROLE...: waits until these StatefulSets are as they should be
	local name
	for name in "$@"; do
		k rollout status "statefulset/$name" --timeout="${timeout}s" || die "$name did not come up"
	done
}
all_rolled_out() { rolled_out erlmcp-registry erlmcp-metrics erlmcp-session erlmcp-cluster; }

# A tool to call, and clients that call it without end.
start_load() {
	say "start a tool's server, and clients that call it"
	k create configmap load --from-file=load.sh="$root/deploy/test/load.sh"
	k apply -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {name: desk, labels: {app: desk}}
spec:
  enableServiceLinks: false
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 5
  containers:
    - name: desk
      image: $image
      imagePullPolicy: IfNotPresent
      args: [up, --demo]
      env:
        - {name: ERLMCP_ENV, value: dev}
        - {name: ERLMCP_LISTEN, value: 0.0.0.0}
        - {name: ERLMCP_ANONYMOUS, value: "true"}
        - {name: ERLMCP_ALLOWED_HOSTS, value: "*"}
        - {name: ERLMCP_DATA_DIR, value: /tmp/erlmcp}
      readinessProbe: {httpGet: {path: /ready, port: 9090}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: desk}
spec:
  selector: {app: desk}
  ports: [{name: http, port: 8081}]
---
apiVersion: v1
kind: Pod
metadata: {name: load, labels: {app: load}}
spec:
  enableServiceLinks: false
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
    - name: load
      image: $image
      imagePullPolicy: IfNotPresent
      command: [/bin/sh, -c]
      args: ["until [ -e /tmp/go ]; do sleep 0.2; done; exec sh /load/load.sh http://erlmcp:8081/mcp $key desk_orders_GetProduct 4"]
      volumeMounts: [{name: load, mountPath: /load}]
  volumes:
    - name: load
      configMap: {name: load}
YAML
	k wait --for=condition=Ready pod/desk pod/load --timeout="${timeout}s"
	k exec load -- timeout 10 wget -q -O - --header "Authorization: Bearer $key" --header 'Content-Type: application/json' \
		--post-data '{"name":"desk","http":{"url":"http://desk:8081/mcp"}}' http://erlmcp:8080/api/v1/servers
	local i
	for i in $(seq 1 60); do
		# Several times, since each request may meet another gateway.
		if k exec load -- sh -c "for n in 1 2 3 4 5 6 7 8; do timeout 5 wget -q -O - --header 'Authorization: Bearer $key' http://erlmcp:8080/api/v1/tools | grep -q desk_orders_GetProduct || exit 1; done" 2> /dev/null; then
			k exec load -- touch /tmp/go
			unfailed "the start"
			return
		fi
		sleep 1
	done
	die "the tool is not listed at every gateway after $i s"
}
unfailed() { # STEP: no call failed until now, and calls are still made
	local before after i
	if k logs load | grep FAILED; then die "calls failed during $1"; fi
	before=$(counted)
	for i in $(seq 1 15); do # a call may take 10 s
		sleep 1
		after=$(counted)
		[ "$after" -le "$before" ] || break
	done
	[ "$after" -gt "$before" ] || die "no calls are made any more after $1"
	k logs load | grep SLOW || true
	echo "no failed call in $after until now ($1)"
}
counted() { k exec load -- sh -c 'cat /tmp/worker.* 2>/dev/null || true' | awk '{n += $1} END {print n + 0}'; }
stop_load() {
	local i line
	k exec load -- touch /tmp/stop
	for i in $(seq 1 30); do
		line=$(k logs load --tail=1)
		case $line in
		calls*) break ;;
		esac
		sleep 1
	done
	echo "$line (after $i s)"
	case $line in
	*' failed 0') ;;
	*) die "calls failed: $line" ;;
	esac
	k delete pod load desk --wait --timeout=60s
	k delete service desk
	k delete configmap load
}

# Takes the gateways off a node. Where it is the only one, none can come up elsewhere, so the budget must stop the
# drain at the two that have to stay.
drain() {
	local node others least=99 ready code=0 watcher
	node=$(k get pod erlmcp-cluster-0 -o jsonpath='{.spec.nodeName}')
	others=$("$kubectl" get nodes --field-selector spec.unschedulable=false -o name | grep -cvx "node/$node" || true)
	say "drain the node $node; $others others"
	(while :; do
		k get statefulset erlmcp-cluster -o jsonpath='{.status.readyReplicas}{"\n"}' >> "$work/ready" 2> /dev/null || true
		sleep 0.5
	done) &
	watcher=$!
	cordoned=$node
	"$kubectl" drain "$node" --pod-selector='app=erlmcp,component=gateway' --ignore-daemonsets --delete-emptydir-data \
		--timeout=75s > "$work/drain" 2>&1 || code=$?
	kill "$watcher"
	wait "$watcher" 2> /dev/null || true
	cat "$work/drain"
	while read -r ready; do
		[ "${ready:-0}" -ge "$least" ] || least=${ready:-0}
	done < "$work/ready"
	echo "least gateways ready: $least"
	[ "$least" -ge 2 ] || die "the drain left $least gateways ready, and the budget is 2"
	if [ "$others" = 0 ]; then
		[ "$code" != 0 ] || die "the drain took all gateways though there is no other node"
		grep -q "disruption budget" "$work/drain" || die "the drain was not stopped by the budget"
	elif [ "$code" != 0 ]; then
		die "the drain did not end"
	fi
	"$kubectl" uncordon "$node"
	cordoned=''
	rolled_out erlmcp-cluster
	unfailed "the drain"
}

scale() {
	say "scale to five gateways and back to three"
	k scale statefulset/erlmcp-cluster --replicas=5
	rolled_out erlmcp-cluster
	unfailed "scaling up"
	k scale statefulset/erlmcp-cluster --replicas=3
	k wait --for=delete pod/erlmcp-cluster-4 pod/erlmcp-cluster-3 --timeout="${timeout}s"
	rolled_out erlmcp-cluster
	unfailed "scaling down"
}

nothing_left() { # fails with what is still there, but for what every namespace has
	local kinds left
	kinds=pods,services,statefulsets,deployments,jobs,configmaps,secrets,serviceaccounts,persistentvolumeclaims,poddisruptionbudgets,networkpolicies,ingresses,horizontalpodautoscalers
	for _ in $(seq 1 60); do
		left=$(k get "$kinds" -o name 2> /dev/null | grep -vx -e configmap/kube-root-ca.crt -e serviceaccount/default || true)
		[ -n "$left" ] || return 0
		sleep 2
	done
	die "left behind: $left"
}

# What the guide's pages look at, and what they do before the manifests; nothing of it stays.
as_the_guide_looks() {
	say "look as the guide does"
	k get svc
	k describe pod erlmcp-cluster-0 | grep 'Image:' || die "describe"
	k logs erlmcp-cluster-0 --tail=100 | grep '"level":' > /dev/null || die "logs"
	[ "$(k logs -l app=erlmcp --tail=50 --all-containers=true --prefix | cut -d ' ' -f 1 | sort -u | wc -l)" -ge 4 ] || die "logs of all"
	timeout 3 "$kubectl" --namespace "$namespace" logs -f erlmcp-cluster-0 --tail=1 > /dev/null || [ $? = 124 ] || die "following logs"
	echo 'cat /proc/1/cmdline' | k exec -i erlmcp-cluster-0 -- /bin/sh | grep -aq gateway || die "a shell"
	# In a copy of the configuration: whose cluster it is goes on with its own namespace.
	"$kubectl" config view --raw --flatten > "$work/kubeconfig"
	KUBECONFIG=$work/kubeconfig "$kubectl" config set-context --current --namespace="$namespace"
	[ "$(KUBECONFIG=$work/kubeconfig "$kubectl" get statefulset erlmcp-cluster -o name)" = statefulset.apps/erlmcp-cluster ] || die "the context's namespace"
	openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=mcp.example.com -keyout "$work/tls.key" -out "$work/tls.crt" 2> /dev/null
	k create secret tls erlmcp-tls --cert="$work/tls.crt" --key="$work/tls.key" || die "the secret of TLS"
	k delete secret erlmcp-tls
	if [ "${1:-}" = helm ]; then
		"$helm" list --namespace "$namespace" | grep "$release" || die "helm list"
		"$helm" history "$release" --namespace "$namespace"
		"$helm" status "$release" --namespace "$namespace" | grep 'STATUS: deployed' || die "helm status"
	fi
}

# Whether the cluster makes volumes by itself, as not every small one does.
makes_volumes() {
	local code=0
	k apply -f - <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: probe}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 70, runAsGroup: 70, fsGroup: 70}
  containers:
    - name: probe
      image: $image
      imagePullPolicy: IfNotPresent
      command: [/bin/sh, -c, "touch /data/file && exec sleep 300"]
      readinessProbe: {exec: {command: [test, -e, /data/file]}, periodSeconds: 1}
      volumeMounts: [{name: data, mountPath: /data}]
  volumes:
    - name: data
      persistentVolumeClaim: {claimName: probe}
YAML
	k wait --for=condition=Ready pod/probe --timeout=90s || code=1
	k delete pod/probe persistentvolumeclaim/probe --timeout=120s
	return "$code"
}

# A release that is installed again finds its volume, and the password that is in it.
reinstall() {
	local i left persistent=(--set postgres.persistence.enabled=true --set postgres.persistence.size=1Gi)
	say "install on a volume, uninstall, install again"
	if ! makes_volumes; then
		echo "NOT TRIED: this cluster makes no volumes by itself"
		return
	fi
	for i in 1 2; do
		"$helm" install "$release" "$root/helm/erlmcp" --namespace "$namespace" --values "$work/values.yaml" "${persistent[@]}" \
			--wait --timeout "${timeout}s" || die "install $i on a volume"
		all_rolled_out
		if [ "$i" = 1 ]; then
			k exec erlmcp-cluster-0 -- timeout 10 wget -q -O - --header "Authorization: Bearer $key" --header 'Content-Type: application/json' \
				--post-data '{"name":"kept","http":{"url":"http://kept:8081/mcp"}}' http://127.0.0.1:8080/api/v1/servers
		else
			k exec erlmcp-cluster-0 -- timeout 10 wget -q -O - --header "Authorization: Bearer $key" http://127.0.0.1:8080/api/v1/servers |
				grep '"kept"' > /dev/null || die "what was registered before is not there"
		fi
		"$helm" uninstall "$release" --namespace "$namespace" --wait --timeout "${timeout}s"
		for _ in $(seq 1 60); do
			left=$(k get pods,persistentvolumeclaims,secrets -o name | sort | tr '\n' ' ')
			case $left in *pod/*) sleep 2 ;; *) break ;; esac
		done
		[ "$left" = "persistentvolumeclaim/data-erlmcp-postgres-0 secret/erlmcp-db " ] || die "after the uninstall there is $left"
	done
	k delete persistentvolumeclaim/data-erlmcp-postgres-0 secret/erlmcp-db --timeout=180s
	nothing_left
}

test_helm() {
	local repository=${image%:*} tag=${image##*:}
	say "helm install"
	make_namespace
	cat > "$work/values.yaml" <<YAML
image: {repository: $repository, tag: "$tag"}
adminKey: $key
# A small node holds it all.
erlmcp: {resources: {requests: {cpu: 50m, memory: 64Mi}}}
redis: {image: "$redis", persistence: {enabled: false}}
postgres: {image: "$postgres", persistence: {enabled: false}}
YAML
	"$helm" install "$release" "$root/helm/erlmcp" --namespace "$namespace" --values "$work/values.yaml" \
		--wait --timeout "${timeout}s" || die "helm install"
	all_rolled_out
	k get pods -o wide

	say "helm test: a tool is called"
	"$helm" test "$release" --namespace "$namespace" --timeout "${timeout}s" || die "helm test"

	start_load
	say "helm upgrade under load"
	"$helm" upgrade "$release" "$root/helm/erlmcp" --namespace "$namespace" --reuse-values --set logging.level=debug \
		${next:+--set "image.tag=$next"} --wait --timeout "$((2 * timeout))s" || die "helm upgrade"
	all_rolled_out
	unfailed "the upgrade"

	say "helm rollback under load"
	"$helm" rollback "$release" --namespace "$namespace" --wait --timeout "$((2 * timeout))s" || die "helm rollback"
	all_rolled_out
	[ "$(k get configmap erlmcp-config -o jsonpath='{.data.ERLMCP_LOG_LEVEL}')" = info ] || die "the rollback did not bring the former configuration back"
	unfailed "the rollback"
	as_the_guide_looks helm
	scale
	drain
	stop_load

	say "helm uninstall"
	"$helm" uninstall "$release" --namespace "$namespace" --wait --timeout "${timeout}s"
	nothing_left
	reinstall
	"$kubectl" delete namespace "$namespace" --timeout=180s
	made=''
}

test_manifests() {
	local file
	say "the plain manifests"
	make_namespace
	k create secret generic erlmcp-secrets --from-literal=erlang-cookie="$(openssl rand -base64 48 | tr -d '\n')" --from-literal=admin-key="$key"
	k create secret generic erlmcp-db --from-literal=db-host=erlmcp-postgres --from-literal=db-name=erlmcp_prod \
		--from-literal=db-user=erlmcp --from-literal=db-password="$(openssl rand -hex 24)"
	k create secret generic erlmcp-redis --from-literal=redis-password="$(openssl rand -hex 24)"
	# Stores, which a user of the manifests has: the chart's.
	"$helm" template "$release" "$root/helm/erlmcp" --namespace "$namespace" --kube-version 1.32.0 \
		--set redis.persistence.enabled=false --set postgres.persistence.enabled=false \
		--set "redis.image=$redis" --set "postgres.image=$postgres" \
		--show-only templates/stores.yaml > "$work/stores.yaml"
	k apply -f "$work/stores.yaml"
	rolled_out erlmcp-postgres erlmcp-redis
	# A small node holds it all.
	"$kubectl" set resources --local -f "$root/k8s/statefulset.yaml" --requests=cpu=50m,memory=64Mi -o yaml > "$work/statefulset.yaml"
	for file in namespace rbac configmap statefulset service ingress hpa pdb network-policy monitoring; do
		if [ "$file" = statefulset ]; then k apply -f "$work/statefulset.yaml"; else k apply -f "$root/k8s/$file.yaml"; fi
		# The one line that every cluster has differently.
		[ "$file" != configmap ] || k patch configmap erlmcp-config --type merge --patch '{"data":{"REDIS_HOST":"erlmcp-redis"}}'
	done
	if [ "$image" != erlmcp:3.0.0 ]; then
		for file in cluster session registry metrics; do k set image "statefulset/erlmcp-$file" "erlmcp=$image"; done
	fi
	# The autoscaler would scale back what the test scales.
	k delete -f "$root/k8s/hpa.yaml"
	all_rolled_out
	k scale statefulset/erlmcp-cluster --replicas=3
	rolled_out erlmcp-cluster
	k get pods -l app=erlmcp
	k get statefulset erlmcp-cluster
	k exec erlmcp-cluster-0 -- /opt/erlmcp/bin/erlmcp ping | grep -x pong
	as_the_guide_looks

	start_load
	say "rolling update of the gateways under load, and undo"
	if [ -n "$next" ]; then
		k set image statefulset/erlmcp-cluster "erlmcp=${image%:*}:$next"
	else
		k rollout restart statefulset/erlmcp-cluster
	fi
	rolled_out erlmcp-cluster
	unfailed "the rolling update"
	k rollout history statefulset/erlmcp-cluster
	k rollout undo statefulset/erlmcp-cluster
	rolled_out erlmcp-cluster
	unfailed "undoing it"
	say "a rolling update of the other services under load"
	k rollout restart statefulset/erlmcp-session statefulset/erlmcp-registry statefulset/erlmcp-metrics
	all_rolled_out
	unfailed "rolling the services"

	say "scripts: graceful shutdown and rollback"
	KUBECTL=$kubectl "$root/scripts/graceful-shutdown.sh" --namespace "$namespace" erlmcp-cluster-0 || die "graceful-shutdown.sh"
	rolled_out erlmcp-cluster
	KUBECTL=$kubectl "$root/scripts/rollback.sh" kubernetes || die "rollback.sh kubernetes"
	KUBECTL=$kubectl "$root/scripts/rollback.sh" kubernetes --all || die "rollback.sh kubernetes --all"
	unfailed "the scripts"
	scale
	drain
	stop_load

	say "delete what was applied"
	for file in monitoring network-policy pdb ingress service statefulset configmap rbac; do
		k delete -f "$root/k8s/$file.yaml" --timeout="${timeout}s"
	done
	k delete -f "$work/stores.yaml" --timeout="${timeout}s"
	k delete secret erlmcp-secrets erlmcp-db erlmcp-redis
	nothing_left
	"$kubectl" delete namespace "$namespace" --timeout=180s
	made=''
}

case $only in
'')
	test_helm
	test_manifests
	;;
helm) test_helm ;;
manifests) test_manifests ;;
*) usage >&2; exit 2 ;;
esac
say "passed"
