"""The modules that every stage depends on: settings, errors, tables, atomic outputs, seeds."""
