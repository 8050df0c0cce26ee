#!/usr/bin/env bash
# Writes the plain manifests from the chart: generate.sh HELM DIRECTORY. namespace.yaml is written by hand.
set -euo pipefail
helm=$1 to=$2
here=$(cd "$(dirname "$0")" && pwd)
for name in rbac configmap statefulset service ingress hpa pdb network-policy monitoring; do
	{
		echo "# Made from deploy/helm/erlmcp by make k8s-manifests. Don't edit."
		"$helm" template erlmcp "$here/../helm/erlmcp" --namespace erlmcp --kube-version 1.32.0 \
			--values "$here/values.yaml" --show-only "templates/$name.yaml" | grep -v '^# Source: '
	} > "$to/$name.yaml"
done
