"""The grammar behind toy_en_fr: its words, its phrases, its clauses, and how they are spelt."""
