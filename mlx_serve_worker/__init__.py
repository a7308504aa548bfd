"""One process per loaded model: it is told what to compute, and answers."""
