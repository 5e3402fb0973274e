"""The default model: data, vocabulary, training and evaluation."""
