"""Presentation of a ``Detection``: for the terminal now, each further form in a module of its own."""
