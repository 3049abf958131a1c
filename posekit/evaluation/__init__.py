"""Official scores of each head: predictions in, numbers with their protocol out.

The evaluators are in `registry`, files are scored by `score`, runs compared by `compare`. What runs
a model is in `runner` and `cross`, which need torch; the rest does not.
"""
