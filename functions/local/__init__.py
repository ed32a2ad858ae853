"""The whole product on one machine: embedded broker, supervisor, local scaler, live table (`pickspin up`)."""
