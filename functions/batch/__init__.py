"""`pickspin batch`: a file of requests as batches of a running ingress, which keeps their progress."""
