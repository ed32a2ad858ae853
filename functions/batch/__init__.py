"""`pickspin batch`: a file of requests through a running ingress, resumable, never repeating finished work."""
