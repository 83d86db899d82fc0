"""The input of the measurements: made-up reviews, the same at every run, about 300 bytes each."""

import csv
import io
import random
from collections.abc import Iterator

COLUMNS = ("id", "product", "rating", "review")
PRODUCTS = ("kettle", "desk lamp", "rain jacket", "headphones", "coffee grinder", "bicycle pump", "office chair")
SENTENCES = (
    "It arrived two days late and the box was open.",
    "The colour is nicer than in the picture and it feels solid.",
    "After a week of daily use, it still works as it did on the first day.",
    "The manual is of no use at all, so I looked it up online.",
    "My daughter uses it every morning before school.",
    "For this price I had hoped for better material.",
    "Customer service answered within an hour, which I did not expect.",
    "It makes a noise that you hear in the next room.",
    "I would buy it again without thinking twice.",
    "The lid does not close properly any more.",
    "Setting it up took five minutes.",
    "It does what it says and nothing else.",
    "Compared with my old one, it is a step back.",
    "The battery lasts about as long as promised.",
)
SENTENCES_PER_REVIEW = 6
# What makes a cell hard to read: these shares of the reviews hold a quotation, and a line end.
QUOTING_SHARE = 0.05
PARAGRAPH_SHARE = 0.02


def reviews_csv(rows: int) -> bytes:
    """A file with a header and so many rows. Some 80 % of the reviews hold a comma and are quoted for it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(reviews(rows))
    return text.getvalue().encode()


def reviews(rows: int) -> Iterator[list[str]]:
    """So many rows, as COLUMNS has them."""
    chance = random.Random(20)
    for number in range(1, rows + 1):
        sentences = chance.choices(SENTENCES, k=SENTENCES_PER_REVIEW)
        # No two prompts are alike, so that the provider can tell each call from every other.
        sentences[0] = f"This is about order {number}."
        if chance.random() < QUOTING_SHARE:
            sentences[1] = 'The seller calls it "as good as new".'
        separator = "\n" if chance.random() < PARAGRAPH_SHARE else " "
        yield [str(number), chance.choice(PRODUCTS), str(chance.randint(1, 5)), separator.join(sentences)]
