"""The worker: consumes one service's topics beside its model server, calls the model, publishes the replies.

`main.run` wires it; `polling` owns the consumer and the ledger, `scheduling` decides what runs next (pure),
`running` takes one request from its start to its terminal, `generate` calls the model server.
"""
