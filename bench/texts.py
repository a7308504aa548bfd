"""What is sent: the same texts on every machine and in every round."""

from random import Random

_TEXT = """
a server computes vectors of texts and ranks documents by how well they answer the question that
somebody has asked while the model stays in memory until it is not used any more then its process
ends and gives back what it took so that another one may be loaded in its place
"""
_WORDS = _TEXT.split()
_MEDIAN_WORDS = 20
_SPREAD = 0.85
"""Of the logarithm of a length: lengths in a real corpus are about lognormal."""
_MOST_WORDS = 200


def sentence(random: Random, words: int) -> str:
    return " ".join(random.choices(_WORDS, k=words))


def short(count: int, seed: int = 1) -> list[str]:
    random = Random(seed)
    return [sentence(random, random.randint(8, 16)) for _ in range(count)]


def mixed(count: int, seed: int = 2) -> list[str]:
    random = Random(seed)
    lengths = (round(_MEDIAN_WORDS * random.lognormvariate(0, _SPREAD)) for _ in range(count))
    return [sentence(random, min(_MOST_WORDS, max(1, length))) for length in lengths]


def documents(count: int) -> list[str]:
    random = Random(3)
    return [sentence(random, random.randint(20, 60)) for _ in range(count)]


def prompt(number: int) -> str:
    """Each another, so that none is known from the one before."""
    return sentence(Random(1000 + number), 60)
