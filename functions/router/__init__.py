"""The router: a request event in, a routed event out. One pure handler, two bindings."""
