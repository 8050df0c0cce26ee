#!/usr/bin/env bash
# Brings back what backup-config.sh saved.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
restore-config.sh FILE [options]

Checks FILE, then puts its files into --into, where none may be, and applies its ConfigMaps and Secrets to the
cluster. A damaged file is refused with what is wrong with it, and nothing is changed.

  --into DIRECTORY          (the working directory)
  --cluster                 apply to the cluster of KUBECONFIG
  --force                   overwrite files
  --passphrase-file FILE    for an encrypted backup
  --dry-run                 check FILE, and say what would be done
USAGE
}

file='' into=. cluster='' force='' pass=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--cluster) cluster=yes ;;
	--force) force=yes ;;
	--into | --passphrase-file)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		if [ "$1" = --into ]; then into=$2; else pass=$2; fi
		shift
		;;
	-*) wrong "unknown option $1" ;;
	*) [ -z "$file" ] || wrong "one FILE at a time"; file=$1 ;;
	esac
	shift
done
[ -n "$file" ] || wrong "a FILE is needed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unseal "$file" "$work" "$pass"
shopt -s nullglob dotglob
for one in "$work"/files/*; do
	[ -n "$force" ] || [ ! -e "$into/${one##*/}" ] || fail "$into/${one##*/} is there already; give --force to overwrite it"
done
for one in "$work"/files/*; do
	run cp -p "$one" "$into/"
	say "restored $into/${one##*/}"
done
if [ -n "$cluster" ]; then
	for one in "$work"/kubernetes/{configmaps,secrets}.yaml; do
		[ ! -f "$one" ] || run "${KUBECTL:-kubectl}" apply --filename "$one"
	done
fi
