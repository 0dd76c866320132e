"""Scores of predictions against references: sums per row, corpus scores from the sums, bootstrap
intervals and paired tests."""
