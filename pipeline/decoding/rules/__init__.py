"""Shared parts of the search methods: constraints on tokens, ranking of hypotheses, and ensembles.

They are not in the folder of the methods, whose files are found by their names.
"""
