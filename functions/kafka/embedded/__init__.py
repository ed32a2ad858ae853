"""The embedded broker: librdkafka's mock cluster, and the doorbell that wakes its readers."""
