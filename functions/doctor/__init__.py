"""`pickspin doctor` and `pickspin status --cluster`: what is installed, and what is wrong with it.

`snapshot_reader.read_snapshot` takes a frozen `ClusterSnapshot`. The rest is pure:
`checks` finds pitfalls, `service_status` reports each service and why it does not scale.
"""
