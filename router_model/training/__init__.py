"""Training of the learned classifier: outcomes in, a verified weights directory out. Not imported to serve."""
