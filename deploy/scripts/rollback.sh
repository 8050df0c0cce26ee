#!/usr/bin/env bash
# Goes back to the release before.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
rollback.sh docker|compose|swarm|kubernetes|helm [ENVIRONMENT] [options]

  docker       replaces the container erlmcp by one of the image --to, with its ports, network, variables, volumes,
               command, restart policy, rights, limits and logging; puts it back when the other does not become healthy
  compose      starts the services with the image --to, as many of each as there are; ENVIRONMENT production (the
               default) reads .env.prod where there is one
  swarm        rolls erlmcp_erlmcp back to the specification before; --all: each of the four services that was updated
  kubernetes   undoes the last rollout of erlmcp-cluster, or goes to revision --to; --all: of each of the four that was
               updated
  helm         rolls the release erlmcp back by one revision, or to revision --to

  kubernetes and helm delete pods of the release that is left when they are not ready: the others would wait for them.

  --to IMAGE|REVISION   where to (docker and compose: ERLMCP_PREVIOUS_IMAGE, else erlmcp:3.0.0-previous)
  --namespace NAME      of Kubernetes and Helm (erlmcp)
  --all                 see above
  --dry-run             say what would be done
USAGE
}

words=() to='' namespace=erlmcp all=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--all) all=yes ;;
	--to | --namespace)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		if [ "$1" = --to ]; then to=$2; else namespace=$2; fi
		shift
		;;
	-*) wrong "unknown option $1" ;;
	*) words+=("$1") ;;
	esac
	shift
done
[ "${#words[@]}" -le 2 ] || wrong "too many arguments"
kind=${words[0]:-docker} environment=${words[1]:-production}
kubectl=${KUBECTL:-kubectl} helm=${HELM:-helm}
previous=${to:-${ERLMCP_PREVIOUS_IMAGE:-erlmcp:3.0.0-previous}}

# with_image fails before anything is touched when there is nothing to go back to.
with_image() {
	[ -n "$dry" ] || docker image inspect "$previous" > /dev/null 2>&1 ||
		fail "there is no image $previous here; give --to, or pull it"
}

healthy() { # CONTAINER: waits for its health check
	local state
	for _ in $(seq 1 90); do
		state=$(docker inspect -f '{{if .State.Running}}{{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}{{else}}exited{{end}}' "$1" 2> /dev/null)
		case $state in
		healthy) return 0 ;;
		exited | unhealthy) return 1 ;;
		esac
		sleep 1
	done
	return 1
}

# How a container was started, as options of docker run, one a line.
# shellcheck disable=SC2016 # variables of the template
options_of='{{with .HostConfig}}{{with .RestartPolicy}}{{if and .Name (ne .Name "no")}}--restart={{.Name}}{{if .MaximumRetryCount}}:{{.MaximumRetryCount}}{{end}}{{println}}{{end}}{{end -}}
{{if .ReadonlyRootfs}}--read-only{{println}}{{end}}{{if .Privileged}}--privileged{{println}}{{end -}}
{{range $path, $options := .Tmpfs}}--tmpfs={{$path}}{{if $options}}:{{$options}}{{end}}{{println}}{{end -}}
{{range .CapAdd}}--cap-add={{println .}}{{end}}{{range .CapDrop}}--cap-drop={{println .}}{{end -}}
{{range .SecurityOpt}}--security-opt={{println .}}{{end}}{{with .Init}}--init={{json .}}{{println}}{{end -}}
{{with .Memory}}--memory={{println .}}{{end}}{{with .MemorySwap}}--memory-swap={{println .}}{{end -}}
{{with .MemoryReservation}}--memory-reservation={{println .}}{{end}}{{with .NanoCPUs}}nanocpus={{println .}}{{end -}}
{{with .CPUShares}}--cpu-shares={{println .}}{{end}}{{with .CPUPeriod}}--cpu-period={{println .}}{{end -}}
{{with .CPUQuota}}--cpu-quota={{println .}}{{end}}{{with .CpusetCpus}}--cpuset-cpus={{println .}}{{end -}}
{{with .PidsLimit}}--pids-limit={{json .}}{{println}}{{end}}{{range .Ulimits}}--ulimit={{.Name}}={{.Soft}}:{{.Hard}}{{println}}{{end -}}
{{with .LogConfig}}{{with .Type}}--log-driver={{println .}}{{end}}{{range $key, $value := .Config}}--log-opt={{$key}}={{$value}}{{println}}{{end}}{{end -}}
--network={{.NetworkMode}}{{end}}'
# shellcheck disable=SC2016
ports_of='{{range $port, $hosts := .HostConfig.PortBindings}}{{range $hosts}}--publish={{if .HostIp}}{{.HostIp}}:{{end}}{{.HostPort}}:{{$port}}{{println}}{{end}}{{end}}'

# given NAME FIELD: whether the container was given this, rather than by its image.
given() {
	local image
	image=$(docker inspect -f '{{.Image}}' "$1")
	[ "$(docker inspect -f "{{json .Config.$2}}" "$1")" != "$(docker image inspect -f "{{json .Config.$2}}" "$image" 2> /dev/null)" ]
}

rollback_docker() {
	local name=${ERLMCP_CONTAINER:-erlmcp} variables arguments=() command=() entry=() line
	with_image
	if [ -n "$dry" ]; then
		say "would stop the container $name, start $previous in its place, and put it back unless that becomes healthy"
		return
	fi
	docker inspect "$name" > /dev/null 2>&1 || fail "there is no container $name"
	[ "$(docker inspect -f '{{.HostConfig.AutoRemove}}' "$name")" != true ] ||
		fail "the container $name goes when it stops (docker run --rm), and could not be put back; replace it by hand"
	variables=$(mktemp)
	# shellcheck disable=SC2064
	trap "rm -f '$variables'" EXIT
	docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' "$name" | grep -v -e '^PATH=' -e '^$' > "$variables"
	while IFS= read -r line; do
		case $line in
		nanocpus=*) printf -v line -- '--cpus=%d.%09d' "$((${line#*=} / 1000000000))" "$((${line#*=} % 1000000000))" ;;
		esac
		[ -z "$line" ] || arguments+=("$line")
	done < <(docker inspect -f "$options_of" "$name" && docker inspect -f "$ports_of" "$name")
	# Each list ends with an empty line.
	if given "$name" User; then arguments+=(--user="$(docker inspect -f '{{.Config.User}}' "$name")"); fi
	if given "$name" Cmd; then
		mapfile -t command < <(docker inspect -f '{{range .Config.Cmd}}{{println .}}{{end}}' "$name")
		unset 'command[-1]'
	fi
	if given "$name" Entrypoint; then
		mapfile -t entry < <(docker inspect -f '{{range .Config.Entrypoint}}{{println .}}{{end}}' "$name")
		unset 'entry[-1]'
		arguments+=(--entrypoint="${entry[0]:-}")
		command=("${entry[@]:1}" "${command[@]}")
	fi
	docker stop -t 45 "$name" > /dev/null
	docker rename "$name" "$name-rolled-back"
	# With the volumes of the one before: its data goes on.
	if docker run --detach --name "$name" --env-file "$variables" --volumes-from "$name-rolled-back" "${arguments[@]}" "$previous" "${command[@]}" > /dev/null && healthy "$name"; then
		docker rm "$name-rolled-back" > /dev/null
		return
	fi
	docker logs --tail 20 "$name" >&2 || true
	docker rm --force "$name" > /dev/null 2>&1 || true
	docker rename "$name-rolled-back" "$name"
	docker start "$name" > /dev/null
	fail "$previous did not become healthy; the container $name is back as it was"
}

rollback_compose() {
	local options=() scales=() labels
	with_image
	if [ "$environment" = production ] && [ -f .env.prod ]; then options+=(--env-file .env.prod); fi
	# As many of each as there are: a number may have been given by hand.
	labels='{{index .Config.Labels "com.docker.compose.oneoff"}} {{index .Config.Labels "com.docker.compose.service"}}'
	mapfile -t scales < <(docker compose "${options[@]}" ps --all --quiet 2> /dev/null | xargs -r docker inspect -f "$labels" | sort | uniq -c |
		awk '$2 == "False" && $3 ~ /^erlmcp(-session|-registry|-metrics)?$/ { print "--scale=" $3 "=" $1 }')
	run env ERLMCP_IMAGE="$previous" docker compose "${options[@]}" up --detach --no-build --wait --wait-timeout 300 "${scales[@]}"
	say "write ERLMCP_IMAGE=$previous into the environment file too, or the next start goes forward again"
}

rollback_swarm() {
	local services=(erlmcp_erlmcp) service updated
	[ -z "$all" ] || services+=(erlmcp_erlmcp-session erlmcp_erlmcp-registry erlmcp_erlmcp-metrics)
	for service in "${services[@]}"; do
		if [ -n "$all" ] && [ -z "$dry" ]; then
			updated=$(docker service inspect "$service" -f '{{if .PreviousSpec}}yes{{end}}') || fail "there is no service $service"
			if [ "$updated" != yes ]; then
				say "$service stays as it is: it was not updated"
				continue
			fi
		fi
		run docker service rollback "$service"
	done
}

# unblock SET: deletes pods of a StatefulSet that are not ready and not of the revision that it is to run. Where pods come
# in order, Kubernetes waits for such a pod before it replaces any, and so for good for one that never becomes ready.
unblock() {
	local generation seen='' revision pods owner hash ready pod
	for _ in $(seq 1 30); do
		IFS=/ read -r generation seen revision < <("$kubectl" --namespace "$namespace" get "$1" \
			-o jsonpath='{.metadata.generation}/{.status.observedGeneration}/{.status.updateRevision}{"\n"}') || fail "there is no $1"
		[ "$seen" != "$generation" ] || break
		sleep 1
	done
	[ "$seen" = "$generation" ] || return 0 # no revision is known; later
	pods=$("$kubectl" --namespace "$namespace" get pods \
		-o jsonpath='{range .items[*]}{.metadata.ownerReferences[0].name}/{.metadata.labels.controller-revision-hash}/{.status.conditions[?(@.type=="Ready")].status}/{.metadata.name}{"\n"}{end}')
	while IFS=/ read -r owner hash ready pod; do
		if [ "$owner" != "${1##*/}" ] || [ "$hash" = "$revision" ] || [ "$ready" = True ]; then continue; fi
		say "delete $pod: it is not ready, and not of the revision that $1 goes back to"
		"$kubectl" --namespace "$namespace" delete pod "$pod" --wait=false
	done <<< "$pods"
}

# rolled_out SET...: waits until StatefulSets run what they are to run.
rolled_out() {
	local set until=$((SECONDS + 600))
	for set in "$@"; do
		if [ -n "$dry" ]; then
			say "would wait for $set, and delete its pods that are not ready and of another revision"
			continue
		fi
		while :; do
			unblock "$set"
			! "$kubectl" --namespace "$namespace" rollout status "$set" --timeout=15s || break
			[ "$SECONDS" -lt "$until" ] || fail "$set is not rolled out after 600 s; look at kubectl describe $set"
			sleep 1
		done
	done
}

rollback_kubernetes() {
	local sets=(statefulset/erlmcp-cluster) undone=() set history
	[ -z "$all" ] || [ -z "$to" ] || wrong "--to is a revision of one StatefulSet: not with --all"
	[ -z "$all" ] || sets+=(statefulset/erlmcp-session statefulset/erlmcp-registry statefulset/erlmcp-metrics)
	for set in "${sets[@]}"; do
		if [ -n "$all" ] && [ -z "$dry" ]; then
			history=$("$kubectl" --namespace "$namespace" rollout history "$set") || fail "there is no $set"
			if [ "$(grep -c '^[0-9]' <<< "$history")" -lt 2 ]; then
				say "$set stays as it is: it was not updated"
				continue
			fi
		fi
		run "$kubectl" --namespace "$namespace" rollout undo "$set" ${to:+--to-revision="$to"}
		undone+=("$set")
	done
	rolled_out "${undone[@]}"
}

rollback_helm() {
	local sets=('every StatefulSet of the release')
	# Without --wait: it would wait for a pod that only rolled_out gets out of the way.
	run "$helm" rollback erlmcp ${to:+"$to"} --namespace "$namespace" --timeout 10m
	if [ -z "$dry" ]; then
		mapfile -t sets < <("$kubectl" --namespace "$namespace" get statefulsets --selector app.kubernetes.io/instance=erlmcp -o name)
		[ "${#sets[@]}" -gt 0 ] || fail "the release is rolled back, but kubectl finds no StatefulSet of it in $namespace"
	fi
	rolled_out "${sets[@]}"
}

case $kind in
docker | compose | swarm | kubernetes | helm)
	say "Initiating rollback for $kind in $environment"
	"rollback_$kind"
	;;
*) wrong "unknown deployment type $kind" ;;
esac
say "Rollback completed. Verify health:"
say "  curl http://localhost:9090/health"
