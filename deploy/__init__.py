"""How Overtile is run: `local` on one machine, `k8s` on a cluster."""
