"""Measurements beside other engines, each a command of its own."""
