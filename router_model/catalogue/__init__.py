"""What is declared: models, services, tiers, profiles and limits, read strictly from YAML."""
