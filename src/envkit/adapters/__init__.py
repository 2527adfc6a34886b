"""Formats that others defined, as envkit's own tasks; nothing of them is imported unless it is asked for."""
