"""Adapters: the only modules that touch Kafka, disks, databases, sockets and processes."""
