"""Looking at a cluster: what is installed, what each service does, and which pitfalls it has run into.

`snapshot_reader.read` takes a frozen `snapshot.Snapshot` of the cluster; everything else is pure
over it: `checks` finds pitfalls, `services` says what each model service is doing and why it does not scale.
"""
