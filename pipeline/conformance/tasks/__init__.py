"""Checks of each task: one module per task, with the task's name."""
