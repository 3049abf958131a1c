"""Typed settings: YAML with good errors, cards, recipes and their parts."""
