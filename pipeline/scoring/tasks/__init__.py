"""One file per task, named like the task: how its predictions are scored, summed up, ranked and laid out in a table.

Each file exports
- `rows(predictions, tokens, split)`: the split's scores, row by row, as a table of its schema `SCHEMA`;
- `summary(table, bootstrap, limit)`: the numbers of `reports/metrics/<run>.json` for one split, `limit` being the split's
  entry in the corpus's `limits.json`;
- `by_length(table, bootstrap)`: the main score by length, as rows of `reports/plots/<run>/by_length.csv`;
- `units(table)` and `score(sums)`: what is resampled and how it is scored, for paired tests; `DIFFERENCE`, its name;
- `BOOK_BLEU`, whether the answers to samples are sentences that the book's BLEU can score;
- `UNIT`, what the loss is the mean over, and `LENGTH`, what `by_length` counts;
- `MAIN`, the key of the score shown first, `HIGHER_IS_BETTER` and its `SCALE`, if it has ends; `COLUMNS` beside it and
  `FURTHER` ones below (title, dotted key, format); and the report's words for all of it.
"""
