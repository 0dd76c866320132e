"""What the search methods share: which tokens may come, how hypotheses are ranked, and how several models become one.

Apart from the methods, whose files are found by their names.
"""
