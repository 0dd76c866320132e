"""Runs of a project: their names, their trained files, and their scores, for the command line and
for Python."""
