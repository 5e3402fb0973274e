"""How the default model's seeing twin is made: pictures, questions, training, evaluation."""
