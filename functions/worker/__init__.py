"""The worker: consumes one service's topics beside its model server, calls the model, publishes the replies.

`main.run` wires it; `consumer_thread` owns the consumer and the ledger, `fair_queue` decides what runs next (pure),
`job_runner` takes one request from its start to its terminal, `backend_client` calls the model server.
"""
