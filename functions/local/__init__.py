"""The whole product on one machine (`pickspin up`).

Supervisor, embedded broker, local scaler, live table.
"""
