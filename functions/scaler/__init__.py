"""KEDA's external-push scaler: reads lag, decides with Algorithm 1, tells KEDA at once when a service must wake."""
