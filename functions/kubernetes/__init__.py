"""The Kubernetes API: its client, informers, a work queue and leader election."""
