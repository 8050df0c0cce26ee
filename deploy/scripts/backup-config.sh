#!/usr/bin/env bash
# Saves what a deployment is made of: environment files, secrets, declared servers, Kubernetes objects, Helm values.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
backup-config.sh [options]

Saves into one file under BACKUP_DIR (/backup/erlmcp/config) what of these is at hand: .env.prod, .erlang_cookie,
.jwt_secret, .db_password, .redis_password and erlmcp.yaml of the working directory; ConfigMaps and Secrets of the
namespace; the values of the Helm release. The file holds secrets: it is readable by its owner only.

  --to DIRECTORY            instead of BACKUP_DIR
  --namespace NAME          of Kubernetes (erlmcp)
  --no-cluster              files only
  --passphrase-file FILE    encrypt with the passphrase in FILE
  --keep DAYS               forget backups that are older (30)
  --dry-run                 say what would be done
USAGE
}

directory=${BACKUP_DIR:-/backup/erlmcp/config} namespace=erlmcp pass='' keep=30 cluster=yes
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--no-cluster) cluster='' ;;
	--to | --namespace | --passphrase-file | --keep)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		case $1 in
		--to) directory=$2 ;;
		--namespace) namespace=$2 ;;
		--passphrase-file) pass=$2 ;;
		--keep) keep=$2 ;;
		esac
		shift
		;;
	*) wrong "unknown argument $1" ;;
	esac
	shift
done
kubectl=${KUBECTL:-kubectl} helm=${HELM:-helm}
need tar sha256sum
[ -z "$pass" ] || { need openssl; [ -s "$pass" ] || fail "the passphrase file $pass is empty or not there"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
saved=()
for file in .env.prod .erlang_cookie .jwt_secret .db_password .redis_password erlmcp.yaml; do
	[ -f "$file" ] || continue
	mkdir -p "$work/files" && cp -p "$file" "$work/files/"
	saved+=("$file")
done
if [ -n "$cluster" ] && command -v "$kubectl" > /dev/null && "$kubectl" --request-timeout=5s get namespace "$namespace" > /dev/null 2>&1; then
	mkdir -p "$work/kubernetes"
	"$kubectl" --namespace "$namespace" get configmaps -o yaml | portable > "$work/kubernetes/configmaps.yaml"
	"$kubectl" --namespace "$namespace" get secrets -o yaml | portable > "$work/kubernetes/secrets.yaml"
	saved+=("configmaps" "secrets")
	if command -v "$helm" > /dev/null && "$helm" status erlmcp --namespace "$namespace" > /dev/null 2>&1; then
		"$helm" get values erlmcp --namespace "$namespace" > "$work/kubernetes/helm-values.yaml"
		saved+=("helm values")
	fi
fi
[ "${#saved[@]}" -gt 0 ] || fail "there is nothing to save: no file here and no namespace $namespace"

target=$directory/erlmcp-config-$(date -u +%Y%m%d-%H%M%S).tar.gz${pass:+.enc}
if [ -n "$dry" ]; then
	say "would save ${saved[*]} as $target"
	exit 0
fi
mkdir -p "$directory"
seal "$work" "$target" "$pass"
forget "$directory" 'erlmcp-config-*' "$keep"
say "saved ${saved[*]} as $target, and checked it"
