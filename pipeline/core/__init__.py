"""The modules that every stage depends on: settings, errors, tables, atomic outputs, seeds."""

from pipeline.core.portable_cpu import set_variables

CPU_VARIABLES = set_variables()  # every program imports this package before torch
