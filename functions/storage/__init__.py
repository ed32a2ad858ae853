"""Files on disk: blobs named by their content, and files that only their owner may read."""
