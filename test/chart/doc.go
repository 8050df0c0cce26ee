// Package chart tests what the Helm chart renders: objects that fit together, for values that operators give, and what
// an upgrade reads from the cluster. It needs helm (HELM names it), so it runs with -tags helm, which
// deploy/test/check.sh does. Start at structure_test.go; what needs a real cluster is in deploy/test/k8s-test.sh.
package chart
