"""KEDA's external-push scaler: reads lag, decides by Algorithm 1, pushes to wake a service."""
