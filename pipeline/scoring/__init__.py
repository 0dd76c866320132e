"""Scores of predictions against references: sums per row, whole-corpus scores from the sums,
intervals and paired tests."""
