"""Work of the leading controller on running models, besides the autoscaling class."""
