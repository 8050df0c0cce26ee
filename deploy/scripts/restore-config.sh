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

Checks FILE, then puts its files into --into, where none may be, and applies its Secrets and ConfigMaps to the cluster,
in the namespace that they are from, which must be there. A damaged file is refused with what is wrong with it, and
nothing is changed.

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
	[ -n "$dry" ] || say "restored $into/${one##*/}"
done
if [ -n "$cluster" ]; then
	# Secrets first: without them nothing starts. What one object is refused for keeps no other back.
	refused=''
	for kind in secrets configmaps; do
		one=$work/kubernetes/$kind.yaml
		[ -f "$one" ] || continue
		# Backups of former releases hold what only their own cluster takes.
		portable < "$one" > "$work/$kind.yaml"
		grep -q '^- ' "$work/$kind.yaml" || continue
		run "${KUBECTL:-kubectl}" apply --filename "$work/$kind.yaml" || refused+=" $kind"
	done
	[ -z "$refused" ] || fail "the cluster refused some of:$refused; the others are applied"
fi
