"""Published data sets: one file for each, with what training-data generation and evaluation read from it.

`clip.Clip` is an annotated video for data_gen; `item.Item` is a question or query for `videollm eval`. `registry` finds
a reader by name or by content. `schema` defines the instruction rows that data_gen writes and training reads.
"""
