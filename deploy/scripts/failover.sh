#!/usr/bin/env bash
# Moves clients from one region to the stand-by region.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
failover.sh [options]

Checks that the stand-by can take over, then in this order: stops the primary's gateways where they can still be
reached, so that no two regions write; makes the stand-by's database the primary (--promote); points clients there
(--switch); waits until the stand-by serves. Nothing is changed when a check fails.

  --primary URL       base of the primary's health port (PRIMARY_HEALTH)
  --stand-by URL      base of the stand-by's health port, such as https://us-west.example.com:9090 (STANDBY_HEALTH)
  --stop COMMAND      stops the primary's gateways (STOP_COMMAND), for instance:
                      kubectl --context us-east-1 -n erlmcp scale statefulset/erlmcp-cluster --replicas=0
  --promote COMMAND   promotes the stand-by's database (PROMOTE_COMMAND), for instance:
                      psql -h db.us-west-2.internal -c 'SELECT pg_promote()'
  --lag COMMAND       prints how many seconds the stand-by's database is behind (LAG_COMMAND): 0 when all that it
                      received is replayed. The time since the last replay alone grows without end once the primary is
                      dead; docs/deployment/disaster-recovery.md has a query
  --most-lag SECONDS  most that may be lost (60)
  --switch COMMAND    points clients to the stand-by (SWITCH_COMMAND), for instance:
                      aws route53 change-resource-record-sets --hosted-zone-id Z... --change-batch file://failover-change.json
  --wait SECONDS      longest wait for the stand-by to serve (300)
  --rehearse          run the checks for real, and only say what would be changed; --dry-run is the same
USAGE
}

primary=${PRIMARY_HEALTH:-} standby=${STANDBY_HEALTH:-} stop=${STOP_COMMAND:-} promote=${PROMOTE_COMMAND:-}
lag=${LAG_COMMAND:-} most=60 switch=${SWITCH_COMMAND:-} wait=300
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run | --rehearse) dry=yes ;;
	--primary | --stand-by | --stop | --promote | --lag | --most-lag | --switch | --wait)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		case $1 in
		--primary) primary=$2 ;;
		--stand-by) standby=$2 ;;
		--stop) stop=$2 ;;
		--promote) promote=$2 ;;
		--lag) lag=$2 ;;
		--most-lag) most=$2 ;;
		--switch) switch=$2 ;;
		--wait) wait=$2 ;;
		esac
		shift
		;;
	*) wrong "unknown argument $1" ;;
	esac
	shift
done
[ -n "$standby" ] || wrong "--stand-by is needed"
[ -n "$switch" ] || wrong "--switch is needed: clients have to be pointed to the stand-by by something"
need curl

is_number() { [[ $1 =~ ^([0-9]+\.?[0-9]*|\.[0-9]+)$ ]]; }
is_number "$most" || wrong "--most-lag $most is no number of seconds"

at() { curl --silent --fail --max-time 5 "$1"; }
version() { at "$1/status" | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' | head -n 1; }
do_it() { # WHAT COMMAND
	if [ -n "$dry" ]; then
		say "would $1: $2"
	else
		say "$1"
		bash -c "$2" || fail "could not $1; what came before is done, what follows is not"
	fi
}

say "check the stand-by, $standby"
at "$standby/status" > /dev/null || fail "the stand-by does not answer at $standby/status; nothing was changed"
there=$(version "$standby")
[ -n "$there" ] || fail "the stand-by tells no version; nothing was changed"
if [ -z "$promote" ]; then
	at "$standby/ready" > /dev/null || fail "the stand-by is not ready, and no --promote is to come; nothing was changed"
fi
for command in "$switch" "$promote" "$stop" "$lag"; do
	[ -z "$command" ] || command -v "${command%% *}" > /dev/null || fail "${command%% *} is needed and not installed; nothing was changed"
done
if [ -n "$lag" ]; then
	behind=$(bash -c "$lag") || fail "--lag failed; nothing was changed"
	# Clocks that differ make it a little less than nothing.
	is_number "${behind#-}" || fail "--lag printed \"$behind\", which is no number; nothing was changed"
	awk -v behind="$behind" -v most="$most" 'BEGIN { exit !(behind + 0 <= most + 0) }' ||
		fail "the stand-by's database is $behind s behind, and $most may be lost; nothing was changed"
	say "the stand-by's database is $behind s behind"
fi
alive=''
if [ -n "$primary" ] && here_version=$(version "$primary") && [ -n "$here_version" ]; then
	alive=yes
	[ "$here_version" = "$there" ] || say "note: the primary runs $here_version, the stand-by $there"
fi
if [ -n "$alive" ]; then
	[ -n "$stop" ] || fail "the primary still answers at $primary; give --stop, so that no two regions write; nothing was changed"
	do_it "stop the primary" "$stop"
else
	say "the primary does not answer; it can't be stopped from here"
fi
[ -z "$promote" ] || do_it "promote the stand-by's database" "$promote"
do_it "point clients to the stand-by" "$switch"
if [ -n "$dry" ]; then
	say "rehearsed: all checks passed, nothing was changed"
	exit 0
fi
until at "$standby/ready" > /dev/null; do
	[ "$SECONDS" -lt "$wait" ] || fail "the stand-by is not ready after $wait s; look at $standby/ready"
	sleep 1
done
say "Failover completed after $SECONDS s: $standby serves"
