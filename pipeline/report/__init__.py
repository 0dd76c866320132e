"""The report: rankings with intervals and paired tests, settings, sample outputs and figures."""
