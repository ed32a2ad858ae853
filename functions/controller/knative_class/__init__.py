"""The Knative autoscaling class: a reconciler, and what it owes each revision."""
