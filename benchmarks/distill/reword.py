"""Rewords a sentence as people do: other words, other order, other manners, a slip of the finger."""

from __future__ import annotations

import random
import re

SYNONYMS = {
    "want": ["would like", "wish"],
    "need": ["require", "have to have"],
    "help": ["assist", "support"],
    "buy": ["purchase", "get"],
    "cancel": ["call off", "stop"],
    "tell": ["inform", "let"],
    "show": ["display", "give"],
    "find": ["locate", "look up"],
    "check": ["verify", "look at"],
    "get": ["receive", "obtain"],
    "make": ["create", "do"],
    "change": ["modify", "alter"],
    "send": ["transfer", "mail"],
    "start": ["begin", "launch"],
    "money": ["funds", "cash"],
    "card": ["plastic", "bank card"],
    "account": ["profile", "acct"],
    "flight": ["plane", "air trip"],
    "trip": ["journey", "travel"],
    "phone": ["mobile", "cell"],
    "car": ["vehicle", "auto"],
    "meal": ["dish", "dinner"],
    "food": ["things to eat", "meals"],
    "restaurant": ["diner", "place to eat"],
    "hotel": ["inn", "place to stay"],
    "reservation": ["booking", "reserved place"],
    "book": ["reserve", "arrange"],
    "movie": ["film", "picture"],
    "song": ["track", "tune"],
    "music": ["songs", "tunes"],
    "list": ["roster", "listing"],
    "reminder": ["note", "alert"],
    "meeting": ["appointment", "get-together"],
    "today": ["this day", "now"],
    "tomorrow": ["the next day", "in a day"],
    "now": ["right away", "at once"],
    "quickly": ["fast", "soon"],
    "problem": ["issue", "trouble"],
    "wrong": ["incorrect", "off"],
    "pay": ["settle", "cover"],
    "bill": ["invoice", "charge"],
    "price": ["cost", "rate"],
    "much": ["many dollars", "a lot"],
    "big": ["large", "huge"],
    "best": ["finest", "top"],
    "good": ["nice", "fine"],
    "job": ["work", "position"],
    "time": ["hour", "moment"],
    "long": ["many minutes", "lengthy"],
    "why": ["how come", "for what reason"],
    "how": ["in what way", "how exactly"],
    "explain": ["clarify", "describe"],
    "order": ["purchase", "shipment"],
    "lost": ["misplaced", "mislaid"],
    "stolen": ["taken", "nicked"],
    "word": ["term", "expression"],
    "weather": ["forecast", "conditions"],
    "turn": ["switch", "flip"],
    "increase": ["raise", "boost"],
    "limit": ["cap", "maximum"],
}
_OPENINGS = (
    "please", "hi,", "hello,", "hey,", "i was wondering,", "quick question:", "could you tell me,",
    "excuse me,", "so,", "ok so", "good morning,",
)  # fmt: skip
_ENDINGS = ("please", "thanks", "thank you", "if you can", "for me", "asap", "right now")
_EXPANDED = {
    "what's": "what is", "i'm": "i am", "i'd": "i would", "can't": "cannot", "don't": "do not",
    "isn't": "is not", "how's": "how is", "where's": "where is", "i've": "i have",
}  # fmt: skip
_DROPPED = {"the", "a", "an", "please", "my", "some", "that", "just"}


def reword(text: str, rng: random.Random) -> str:
    """Return `text` said otherwise: one to three of its words changed, and its manners."""
    words = text.lower().split()
    words = [_EXPANDED.get(word, word) for word in words]
    places = [i for i, word in enumerate(words) if word.strip("?.,!") in SYNONYMS]
    for i in rng.sample(places, min(len(places), rng.randint(1, 2))):
        words[i] = rng.choice(SYNONYMS[words[i].strip("?.,!")])
    if rng.random() < 0.5:
        droppable = [i for i, word in enumerate(words) if word in _DROPPED]
        for i in sorted(rng.sample(droppable, min(len(droppable), 2)), reverse=True):
            del words[i]
    if len(words) > 6 and rng.random() < 0.4:
        cut = rng.randint(2, len(words) - 2)
        words = words[cut:] + words[:cut]
    if rng.random() < 0.3:
        _slip(words, rng)
    if rng.random() < 0.6:
        words.insert(0, rng.choice(_OPENINGS))
    if rng.random() < 0.5:
        words.append(rng.choice(_ENDINGS))
    said = re.sub(r"\s+", " ", " ".join(words)).strip()
    return said if said != text.lower() else f"{said} thanks"


def _slip(words: list[str], rng: random.Random) -> None:
    """Swap two letters of a long word."""
    long = [i for i, word in enumerate(words) if len(word) > 4]
    if long:
        i = rng.choice(long)
        at = rng.randrange(1, len(words[i]) - 2)
        word = words[i]
        words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
