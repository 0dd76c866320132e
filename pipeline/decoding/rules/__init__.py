"""Shared parts of the search methods: constraints on tokens, ranking of hypotheses, and ensembles.

Apart from the methods, whose files are found by their names.
"""
