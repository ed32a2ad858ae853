"""In-memory doubles of the ports, kept true by the contract suites."""
