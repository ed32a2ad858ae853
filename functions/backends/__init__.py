"""Model servers: what differs between them (`table`), and the programs that this machine can start itself."""
