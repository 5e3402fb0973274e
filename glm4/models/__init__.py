"""The forward passes. Flat on purpose: one family a file, importing torch and its neighbours only.

Letters used in every shape: B batch, T tokens of this call, S tokens seen so far (cache included), H hidden size,
N query heads, G key/value heads, D head dimension, V vocabulary rows.
"""
