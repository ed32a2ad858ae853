"""Events as bytes and back: the CloudEvents bindings to Kafka and HTTP, the structured form, and strict JSON."""
