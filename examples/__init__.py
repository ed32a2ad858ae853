"""Programs that use the running product from outside."""
