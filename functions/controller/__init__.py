"""The controller: the Knative autoscaling class `keda.pickspin.io`, and care for models on Kubernetes."""
