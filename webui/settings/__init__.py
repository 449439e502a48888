"""Settings from the environment; see base.py."""
