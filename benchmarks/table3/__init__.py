"""The paper's Table 3 with real outcomes: strategies side by side through the running service."""
