"""What a customer wants, read from their words by rules.

This is the understanding of the stand-in models: patterns in four languages, one list of wishes
per message. It is no match for a real model and does not try to be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

ORDER = re.compile(r"(?<![\w-])#?w[\s-]?(\d{5})(?!\d)", re.IGNORECASE)
_BREAK = re.compile(
    r"(?<=[.!?;])\s+|\n+|,?\s+(?=(?:and also|also,|and (?:can|could|please|then|my|what|when|how|do|i)"
    r"|außerdem|und (?:bitte|können|kann|noch|was|wann)|plus,|oh and|btw|by the way)\b)",
    re.IGNORECASE,
)


def _any(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "spam",
        _any(
            r"https?://",
            r"\bwww\.",
            r"\bbit\.ly\b",
            r"\bseo\b",
            r"\bcasino\b",
            r"\bcrypto\b",
            r"\bbitcoin\b",
            r"\bfollowers\b",
            r"\bbacklinks?\b",
            r"\blottery\b",
            r"\byou have won\b",
            r"\bviagra\b",
            r"\bloans?\b.*\bapprov",
            r"\bguest post",
            r"\bpassive income\b",
            r"\bwork from home\b",
            r"\bgift card codes\b",
            r"\binheritance\b",
            r"\bhot singles\b",
            r"\bgewonnen\b.*\bklick",
            r"\bwhatsapp \+",
            r"\bunlimited leads\b",
        ),
    ),
    (
        "injection",
        _any(
            r"ignore (?:all|your|the|any|previous)[\w ]{0,20}(?:instructions|rules|prompt)",
            r"system prompt",
            r"your (?:rules|instructions)\b.*\b(?:print|show|repeat|reveal)",
            r"(?:print|show|repeat|reveal)[\w ]{0,20}your (?:rules|instructions|prompt)",
            r"developer mode",
            r"you are now\b",
            r"ignoriere (?:alle|deine)",
        ),
    ),
    (
        "other_customer",
        _any(
            r"(?:neighbou?r|colleague|sister|brother|friend|wife|husband|boss|ex)'?s? (?:order|parcel|address|account)",
            r"order of my (?:neighbou?r|colleague|sister|brother|friend|wife|husband|boss|ex)",
            r"(?:address|phone|email|data)[\w ]{0,12} of (?:the |another |your )?(?:other )?customer",
            r"(?:address|bestellung) (?:meines|meiner) (?:nachbar|kolleg|freund|schwester|bruder)",
            r"who (?:else )?(?:bought|ordered)",
        ),
    ),
    (
        "person",
        _any(
            r"(?:real|actual) (?:person|human)",
            r"\bhuman\b",
            r"\ba person\b",
            r"\bmanager\b",
            r"\bsupervisor\b",
            r"your boss",
            r"speak (?:to|with) (?:some|a )",
            r"talk to (?:some|a )",
            r"\blawyer\b|\bsolicitor\b|\bpolice\b|\bconsumer protection\b",
            r"\binjured\b|\bhurt (?:my|him|her)|\bburn(?:ed|t) (?:my|his|her)|\bhospital\b",
            r"formal complaint|written complaint|file a complaint",
            r"delete my (?:account|data)|close my account|\bgdpr\b",
            r"charged (?:me )?twice|double charge|fraud|unknown charge|did ?n[o']?t make this payment",
            r"mitarbeiter|menschen sprechen|vorgesetzt|anwalt|beschwerde|konto löschen|doppelt abgebucht",
            r"parler à (?:quelqu|un)|une personne|hablar con (?:una|alguien)",
            r"\bquote\b.*\b(?:club|school|company|team)|\b(?:club|school|company|team)\b.*\bquote\b",
            r"angebot\b.*\b(?:verein|schule|firma)|\b(?:verein|schule|firma)\b.*\bangebot",
        ),
    ),
    (
        "fault",
        _any(
            r"\bdamaged?\b|\bbroke(?:n)?\b|\bbroken\b|\bdefect|\bfaulty\b|\bcracked\b|\btorn\b|\bripped\b",
            r"\bleak(?:s|ing|ed)?\b|\bripp?ed\b|\bhas a hole\b|\bdoes ?n[o']?t work\b|\bstopped working\b",
            r"(?<!ordered the )(?<!bought the )wrong (?:item|article|product|size was|colour was|thing)|not what i ordered|something else in",
            r"\bmissing from\b|\b(?:is|was|were) missing\b|not in the (?:box|parcel)|incomplete",
            r"beschädigt|kaputt|defekt|gerissen|undicht|falsche[rsn]? artikel|falsch geliefert|fehlt\b",
            r"endommagé|cassé|abîmé|défectueu|mauvais article|\broto|\brota|dañad|defectuos",
        ),
    ),
    (
        "money_back",
        _any(
            r"where(?:'s| is) my (?:refund|money)",
            r"when (?:do|will) i get my (?:money|refund)",
            r"(?:have ?n[o']?t|not) (?:received|got(?:ten)?|seen) (?:my|the|any) (?:refund|money)",
            r"still waiting (?:for|on) (?:my|the) (?:refund|money)",
            r"(?:sent|returned|shipped) (?:it|the \w+|them|everything) back",
            r"(?:already|have) returned",
            r"wo (?:ist|bleibt) (?:mein geld|meine erstattung|die erstattung)|wann (?:bekomme|kommt)[\w ]* geld",
            r"où est mon remboursement|dónde está mi (?:reembolso|dinero)|zurückgeschickt",
        ),
    ),
    (
        "cancel",
        _any(
            r"\bcancel",
            r"\bcall off\b",
            r"\bstorn",
            r"\bannuler\b",
            r"\bcancelar\b|\banular\b",
            r"\bcancle\b|\bcansel",
            r"do ?n[o']?t (?:want|need) (?:the order|this order) any ?more",
        ),
    ),
    (
        "exchange",
        _any(
            r"\bexchang",
            r"\bswap\b",
            r"(?:another|different|bigger|smaller|larger) (?:size|colou?r)",
            r"too (?:small|big|large|tight|wide|short|long)\b",
            r"umtausch|tauschen|zu (?:klein|groß|gross|eng)|andere größe",
            r"échanger|trop (?:petit|grand)|cambiar(?:lo|la)? por|demasiado (?:pequeñ|grande)",
        ),
    ),
    (
        "return",
        _any(
            r"\breturn(?:ing)?\b(?! label)(?! polic)(?! address)(?! cost)",
            r"send (?:it|this|them|the [\w ]{2,20}) back",
            r"do ?n[o']?t (?:like|want) (?:it|the|them|this)",
            r"changed my mind|not for me",
            r"zurück(?:geben|senden|schicken)|zurueckgeben|retoure|gefällt mir nicht",
            r"renvoyer|retourner|devolver|devolución|je n'en veux plus",
        ),
    ),
    (
        "address",
        _any(
            r"(?:change|update|correct|wrong|new|different|fix)[\w ']{0,30}\baddress",
            r"\baddress\b[\w '#-]{0,24}(?:change|is wrong|was wrong|update)",
            r"(?:i(?:'ve| have)?|we(?:'ve| have)?) (?:just )?moved\b|i(?:'m| am) moving",
            r"(?:deliver|send|ship) (?:it|that|this|w-?\d+|my order|the order) (?:to|instead to)\b",
            r"adresse (?:ändern|aendern|ist falsch)|neue (?:liefer)?adresse|umgezogen|falsche (?:liefer)?adresse",
            r"changer (?:l'|mon |d')adresse|déménagé|cambiar (?:la|mi) dirección|me he mudado",
        ),
    ),
    (
        "goodwill",
        _any(
            r"\bdiscount\b|\bvoucher\b(?! code)|\bcoupon\b|\bcompensation\b|\bgoodwill\b",
            r"knock (?:something|\d+)|money off|% off",
            r"\brabatt\b|\bgutschein\b|entschädigung|\bremise\b|\bdescuento\b",
        ),
    ),
    (
        "my_account",
        _any(
            r"(?:what|which) (?:postal |delivery |email )?(?:address|email)[\w ]{0,20}(?:have|on file|do you|stored)",
            r"address[\w ]{0,12} on file|what name is|my account details",
            r"welche (?:adresse|e-?mail)[\w ]{0,20}(?:haben|gespeichert|hinterlegt)",
        ),
    ),
    (
        "help",
        _any(
            r"opening (?:hours|times)|when (?:are|do) you (?:open|close)|(?:are )?you open|what time do you",
            r"how long (?:does|do|is|will)[\w ]{0,20}(?:shipping|delivery|ship|deliver)|delivery times?|shipping times?",
            r"shipping (?:cost|fee|price)|how much (?:is|does) (?:the )?(?:shipping|delivery)|free shipping|express",
            r"return polic|how (?:do|can) i return|how (?:do|does) (?:a |the )?returns? work",
            r"payment method|pay (?:with|by|via)|paypal|invoice|pay on",
            r"size guide|sizing|which size|what size|run (?:small|large|true)|half a size",
            r"how (?:do|should|can) i (?:wash|clean|care|dry|store)|waterproof(?:ing)? (?:again|coating)|re-?proof",
            r"gift card|voucher code",
            r"warranty|guarantee",
            r"where (?:is|are) (?:your|the) (?:store|shop)|store address|pick ?up|visit (?:your|the) (?:store|shop)|parking",
            r"\brepairs?\b|spare part|\bnew zip\b",
            r"newsletter|password|unsubscribe",
            r"do you (?:ship|deliver) (?:to|outside)",
            r"when (?:does|will|do) (?:a |the )?refunds? (?:arrive|take|come)|how long (?:does|do) (?:a |the )?refunds?",
            r"öffnungszeit|geöffnet|wie lange (?:dauert|ist)|versandkosten|lieferzeit|rückgaberecht|zahlungsart|"
            r"rechnung|größentabelle|gutscheinkarte|garantie|wo ist (?:ihr|euer|der) laden|passwort|reparatur|waschen|"
            r"parken|abholen",
            r"horaires|délais? de livraison|frais de (?:port|livraison)|horario|gastos de envío|tarda el envío",
        ),
    ),
    (
        "late",
        _any(
            r"(?:never|not|n't) (?:arrived|come|came|here|showed|turned up|received|got)",
            r"\blost\b|\bvanished\b|\bdisappeared\b|still (?:has ?n[o']?t|not|no parcel|nothing)",
            r"weeks? (?:ago|now)|for weeks|since weeks",
            r"nicht (?:angekommen|da|erhalten)|verloren|seit (?:\w+ )?wochen|immer noch n",
            r"jamais (?:arrivé|reçu)|pas (?:arrivé|reçu)|perdu|no ha llegado|perdido",
        ),
    ),
    (
        "status",
        _any(
            r"where(?:'s|s| is| are) (?:my|the|our) (?:\w+ ){0,2}(?:order|parcel|package|stuff|delivery|tent|boots|jacket)",
            r"where(?:'s|s| is) (?:it\b|my\b|#?w[\s-]?\d)",
            r"\btrack(?:ing)?\b|\bstatus\b|\bdelivery date\b|\bshipped yet\b|\bdispatched\b|\beta\b",
            r"when (?:will|does|is|do)[\w '#-]{0,30}(?:arrive|come|deliver|get here|ship|coming|i get|here)",
            r"has (?:it|my order|order)[\w# -]{0,12} (?:shipped|left|been sent)|any news|any update|update on",
            r"wo (?:ist|bleibt|bleiben)|sendungsverfolgung|wann (?:kommt|wird)|sendungsnummer|\blieferung\b",
            r"où (?:est|en est)|suivi|quand (?:arrive|sera)|dónde está|cuándo llega|seguimiento",
        ),
    ),
    (
        "product",
        _any(
            r"in stock|available|availability|\bprice of\b|how much (?:is|does|are|do) (?:the|a)|do you (?:have|sell)",
            r"auf lager|verfügbar|was kostet|wie viel kostet|lieferbar|combien coûte|en stock|cuánto cuesta",
        ),
    ),
    (
        "off_topic",
        _any(
            r"\bpoem\b|\bpoetry\b|\bjoke\b|\bhomework\b|\bessay\b|\bpython\b|\bjavascript\b|\bcode\b|\brecipe\b",
            r"\belection|\bpresident\b|\bpolitic|\breligion\b|\bgod\b|\bweather\b|\bfootball\b|\bhoroscope\b",
            r"capital of|translate (?:this|the)|who won|meaning of life|stock market|\binvest\b|\bdiagnos|\bheadache\b",
            r"solve (?:this|for)|\bequation\b|gedicht|witz|hausaufgaben|wetter|bundesliga|poème|\bchiste\b",
        ),
    ),
    (
        "thanks",
        _any(
            r"^\s*(?:ok(?:ay)?|great|perfect|super)?[ ,.!]*(?:many )?(?:thanks|thank you|thx|cheers|danke|merci|gracias)",
            r"that(?:'s| is) all|nothing else|das war(?:'s| alles)",
        ),
    ),
    (
        "greeting",
        _any(r"^\s*(?:hi|hello|hey|hallo|good (?:morning|day)|guten tag|bonjour|hola)\b[ ,.!]*$"),
    ),
)
"""Intents by pattern, the most binding first."""

ACTING = frozenset(
    {"fault", "money_back", "cancel", "exchange", "return", "address", "late", "status"}
)
"""Intents that are about one order."""

CLOSED = frozenset({"spam", "injection", "other_customer", "off_topic"})
"""Intents that are declined: with one of them in a message nothing else in it counts."""

_SAYS_WHICH = frozenset({"fault", "money_back", "cancel"})
"""Intents that mention where an order is without asking for it."""

_LANGUAGES = {
    "de": r"\b(?:ich|und|nicht|bitte|meine?r?n?|wo|ist|bestellung|ihre?|wann|das|der|die|habe|guten|danke|wie|welche)\b",
    "fr": r"\b(?:je|où|ma|mon|commande|bonjour|est|votre|vous|pas|les|merci|une|quand)\b",
    "es": r"\b(?:mi|pedido|hola|dónde|está|quiero|gracias|por|favor|una|cuándo|el|la|no)\b",
    "en": r"\b(?:the|my|is|i|and|please|where|order|you|what|it|to|can|have|hello|how|do)\b",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that a customer wants; `text` is where they say it."""

    intent: str
    text: str
    order: str = ""


def orders_in(text: str) -> list[str]:
    """Return the order numbers of a text, as the shop writes them, in order."""
    return [f"W-{digits}" for digits in ORDER.findall(text)]


def language_of(text: str) -> str:
    """Return the language of a text by its small words; empty if there are too few of them."""
    counts = {code: len(re.findall(words, text.casefold())) for code, words in _LANGUAGES.items()}
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] >= 2 else ""


def intent_of(text: str) -> str:
    """Return the first intent that a text matches, or nothing."""
    for intent, pattern in PATTERNS:
        if pattern.search(text):
            return intent
    return ""


def wishes_in(text: str) -> list[Wish]:
    """Return what a message asks for, in order, each wish once per order."""
    whole = intent_of(text)
    if whole in CLOSED or whole == "person":
        numbers = orders_in(text)
        return [Wish(whole, text, numbers[0] if numbers else "")]
    found: list[Wish] = []
    for part in _BREAK.split(text):
        numbers, intent = orders_in(part), intent_of(part)
        if intent:
            found.append(Wish(intent, part, numbers[0] if numbers else ""))
        elif found:
            last = found[-1]
            order = last.order or (numbers[0] if numbers else "")
            found[-1] = replace(last, text=f"{last.text} {part}", order=order)
        elif numbers:
            found.append(Wish("", part, numbers[0]))
    return _merged(found, text)


def _merged(found: list[Wish], text: str) -> list[Wish]:
    """Drop what another wish of the message says already."""
    intents = {wish.intent for wish in found}
    numbers = orders_in(text)
    kept: list[Wish] = []
    for wish in found:
        if wish.intent in {"thanks", "greeting", ""} and intents - {"thanks", "greeting", ""}:
            continue
        several = wish.order and len(set(numbers)) > 1
        if wish.intent in {"status", "late"} and intents & _SAYS_WHICH and not several:
            continue
        if wish.intent == "status" and "late" in intents:
            continue
        if wish.intent in {"return", "exchange"} and "fault" in intents:
            continue
        if wish.intent == "return" and intents & {"exchange", "money_back"}:
            continue
        order = wish.order or (numbers[0] if numbers and wish.intent in ACTING else "")
        if (
            any(w.intent == wish.intent and w.order == order for w in kept)
            and wish.intent != "help"
        ):
            continue
        kept.append(replace(wish, order=order))
    if len(kept) == 1 and kept[0].intent != "help":
        kept[0] = replace(kept[0], text=text)
    return kept
