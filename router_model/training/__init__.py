"""Training of the learned classifier: outcomes in, a verified weights directory out.

Never imported to serve.
"""
