"""Writes reviews.csv beside this script: 1,000 made-up customer reviews, the same ones every time.

python examples/make_reviews.py
"""

import csv
import random
from pathlib import Path

ROWS = 1_000

# Each product with what customers talk about.
PRODUCTS = {
    "Kettle 1.7 l": ("lid", "handle", "spout", "heating element"),
    "Café press": ("filter", "glass", "plunger", "lid"),
    "Desk lamp": ("switch", "arm", "shade", "dimmer"),
    'Monitor 27"': ("stand", "panel", "screen", "cable"),
    "Running shoes, women": ("sole", "heel", "tongue", "lining"),
    "Rain jacket, men": ("zip", "hood", "lining", "pocket"),
    "Garden hose 20 m": ("nozzle", "coupling", "reel", "hose itself"),
    "Wireless earbuds": ("case", "battery", "left earbud", "cable"),
    "Jalapeño sauce": ("bottle", "cap", "label", "seal"),
    "Crème brûlée torch": ("burner", "valve", "trigger", "stand"),
}

OPENINGS = {
    1: (
        "Very disappointed.",
        "Do not buy this.",
        "Worst purchase of the year.",
        "Arrived broken.",
        "Sent back at once.",
    ),
    2: ("Not what I expected.", "Meh.", "It works, barely.", "Expected more at this price.", "Rather poor."),
    3: ("It is OK.", "Does the job.", "Mixed feelings.", "Average, nothing more.", "Fine for occasional use."),
    4: ("Happy with it.", "Good value.", "Solid product!", "Nearly perfect.", "Would recommend."),
    5: ("Absolutely love it!", "Best one I have owned.", "Exceeded my expectations.", "Five stars.", "Très bien !"),
}

REMARKS = {
    1: (
        "the {part} came off after {time}",
        "the {part} never worked",
        "the {part} smells of plastic",
        "the {part} leaked",
    ),
    2: (
        "the {part} feels flimsy",
        "the {part} is smaller than pictured",
        "the {part} squeaks",
        "I had to fix the {part}",
    ),
    3: ("the {part} is fine, the rest less so", "the {part} could be better", "after {time} the {part} shows wear"),
    4: ("the {part} is well made", "after {time} the {part} still looks new", "only the {part} could be improved"),
    5: (
        "the {part} is superb",
        "the {part} is even better than in the pictures",
        "after {time} the {part} is like new",
    ),
}

DELIVERY = (
    "Delivery took {days} days.",
    "Delivered in {days} days, well packed.",
    "The parcel sat at the depot for {days} days…",
    "Came a day early.",
    "The box was dented, but nothing was damaged.",
)

SERVICE = (
    'Support told me to "wait and see".',
    "I wrote to support and had an answer the same day.",
    "Support never replied, neither by mail nor by phone.",
    "My neighbour Zoë has the same one and agrees.",
    "Bought as a gift for my father; he says “not bad”, which is high praise.",
    "Paid €{price}, worth it or not, you decide.",
)

TIMES = ("two days", "a week", "three weeks", "a month", "half a year")


def main() -> None:
    chance = random.Random(20_261_121)
    with Path(__file__).with_name("reviews.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["review_id", "product", "rating", "review"])
        for number in range(1, ROWS + 1):
            product = chance.choice(list(PRODUCTS))
            rating = chance.choices((1, 2, 3, 4, 5), weights=(12, 10, 18, 28, 32))[0]
            writer.writerow([f"R{number:05}", product, rating, review(chance, product, rating)])


def review(chance: random.Random, product: str, rating: int) -> str:
    parts = chance.sample(PRODUCTS[product], 2)
    remarks = [
        remark.format(part=part, time=chance.choice(TIMES))
        for part, remark in zip(parts, chance.sample(REMARKS[rating], 2), strict=True)
    ]
    sentences = [chance.choice(OPENINGS[rating]), f"{remarks[0][0].upper()}{remarks[0][1:]}, and {remarks[1]}."]
    if chance.random() < 0.6:
        sentences.append(chance.choice(DELIVERY).format(days=chance.randint(2, 14)))
    if chance.random() < 0.5:
        sentences.append(chance.choice(SERVICE).format(price=chance.randint(9, 240)))
    # Some people write in paragraphs.
    return ("\n\n" if chance.random() < 0.1 else " ").join(sentences)


if __name__ == "__main__":
    main()
