"""The controller: the Knative autoscaling class `keda.pickspin.io`, and cluster maintenance."""
