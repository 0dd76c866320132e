"""The library: corpora, text, models, objectives, training, search, scores. `stages/`, the DAG's
nodes, call it."""

from pipeline.core.portable_cpu import set_variables

set_variables()  # before torch is imported
