"""Measurements of the running product; each module is a program."""
