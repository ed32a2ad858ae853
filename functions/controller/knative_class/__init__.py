"""The Knative autoscaling class `keda.pickspin.io`."""
