"""Adapters to Kafka: librdkafka carries the records, kafka-python administers (ADR 0016)."""
