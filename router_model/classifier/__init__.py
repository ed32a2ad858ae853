"""Complexity classes of prompts: keyword rules, a linear stage, an encoder stage, and their hybrid."""
