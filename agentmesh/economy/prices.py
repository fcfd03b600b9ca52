"""What a call costs, in integer micro-dollars, computed with decimals.

List prices come from the `genai-prices` package, by date and by the prompt's length. Contracts,
own students and models that it does not list come from an overlay. A price that nobody knows is
None, never zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmesh.economy.semantics import ModelName, listed_as, semantics
from agentmesh.economy.usage import Usage
from agentmesh.errors import ConfigError

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

_KEYS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens of each kind.

    Numbers and texts are accepted and kept as decimals. What is None follows from the model's
    cache semantics (a multiple of `input`).

    >>> Price("0.02", "0.06").output
    Decimal('0.06')
    """

    input: Decimal
    output: Decimal
    read: Decimal | None = None
    write: Decimal | None = None
    write_long: Decimal | None = None

    def __init__(
        self,
        input: Decimal | float | str,
        output: Decimal | float | str,
        read: Decimal | float | str | None = None,
        write: Decimal | float | str | None = None,
        write_long: Decimal | float | str | None = None,
    ) -> None:
        values = {
            "input": input,
            "output": output,
            "read": read,
            "write": write,
            "write_long": write_long,
        }
        for name, value in values.items():
            if value is None and name not in ("input", "output"):
                object.__setattr__(self, name, None)
            else:
                object.__setattr__(self, name, _dollars(name, value))

    def complete(self, model: ModelName) -> Price:
        """Return this price with the missing kinds derived from the cache semantics of `model`."""
        rules = semantics(model)
        return Price(
            self.input,
            self.output,
            self.input * rules.read_multiplier if self.read is None else self.read,
            self.input * rules.write_multiplier if self.write is None else self.write,
            self.input * rules.long_write_multiplier
            if self.write_long is None
            else self.write_long,
        )

    def cost(self, usage: Usage) -> int:
        """Return what `usage` costs in micro-dollars; every kind must have its price."""
        if self.read is None or self.write is None or self.write_long is None:
            raise ConfigError(
                f"the price {self!r} is incomplete", hint="call `price.complete(model)` first"
            )
        micro = (
            self.input * usage.fresh
            + self.read * usage.read
            + self.write * usage.write
            + self.write_long * usage.write_long
            + self.output * usage.output
        )
        return int(micro.to_integral_value(ROUND_HALF_EVEN))


def _dollars(name: str, value: object) -> Decimal:
    try:
        if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
            raise InvalidOperation
        number = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise ConfigError(
            f"price {name!r} is {value!r}",
            hint="give US dollars per million tokens, zero or more",
        )
    return number


class PriceBook:
    """Prices of models: an overlay of your own first, then the list prices.

    >>> book = PriceBook({"openai-compatible:qwen3-8b": Price("0.02", "0.06")})
    >>> book.cost("openai-compatible:qwen3-8b", Usage(fresh=1_000, output=100))
    26
    """

    def __init__(self, overlay: Mapping[ModelName, Price] | None = None) -> None:
        self._overlay: dict[ModelName, Price] = {}
        for model, price in (overlay or {}).items():
            if not isinstance(model, str) or ":" not in model:
                raise ConfigError(
                    f"price for model {model!r}", hint="name it VENDOR:NAME, as in a tier"
                )
            if not isinstance(price, Price):
                raise ConfigError(
                    f"price of {model!r} is {price!r}", hint="give a Price(input, output)"
                )
            self._overlay[model] = price.complete(model)
        self._listed: dict[ModelName, ModelInfo | None] = {}

    @classmethod
    def from_file(cls, path: str | Path) -> PriceBook:
        """Return the book whose overlay is a JSON file: model name to kinds and dollars.

        The file looks like `{"openai-compatible:qwen3-8b": {"input": 0.02, "output": 0.06}}`.

        Raises:
            ConfigError: the file cannot be read or says something else.
        """
        try:
            table = json.loads(Path(path).read_text("utf-8"), parse_float=Decimal)
        except OSError as error:
            raise ConfigError(
                f"price file {str(path)!r} cannot be read: {error.strerror}",
                hint="check the path",
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"price file {str(path)!r} is not JSON: {error}", hint="see PriceBook.from_file"
            ) from error
        if not isinstance(table, dict):
            raise ConfigError(
                f"price file {str(path)!r} holds no object",
                hint='write {"VENDOR:NAME": {"input": 1.0, "output": 2.0}}',
            )
        return cls({model: _parse(path, model, row) for model, row in table.items()})

    def price(
        self, model: ModelName, *, at: float | datetime | None = None, input_tokens: int = 0
    ) -> Price | None:
        """Return the complete price of `model`, or None if nobody knows it.

        Args:
            model: VENDOR:NAME.
            at: when the call was made (seconds since 1970, or a time); now if None.
            input_tokens: the whole prompt's length, which some models' prices depend on.
        """
        own = self._overlay.get(model)
        if own is not None:
            return own
        listed = self._find(model)
        if listed is None:
            return None
        prices = listed.get_prices(_time(at))
        fresh, output, read, write, long = (
            _at_length(getattr(prices, key), input_tokens) for key in _KEYS
        )
        if fresh is None or output is None:
            return None
        # a list without a discount bills reads as input
        return Price(fresh, output, fresh if read is None else read, write, long).complete(model)

    def cost(
        self, model: ModelName, usage: Usage, at: float | datetime | None = None
    ) -> int | None:
        """Return what `usage` of `model` costs in micro-dollars, or None if it is unknown."""
        price = self.price(model, at=at, input_tokens=usage.input)
        return None if price is None else price.cost(usage)

    def window(self, model: ModelName) -> int | None:
        """Return how many tokens of prompt `model` takes, None if nobody knows."""
        listed = self._find(model)
        return None if listed is None else listed.context_window

    def _find(self, model: ModelName) -> ModelInfo | None:
        if model not in self._listed:
            self._listed[model] = _look_up(model)
        return self._listed[model]


def _look_up(model: ModelName) -> ModelInfo | None:
    # genai-prices takes 0.2 s to import, so only those who ask for a price wait for it
    from genai_prices.data_snapshot import get_snapshot

    vendor, _, name = listed_as(model).partition(":")
    try:
        _, found = get_snapshot().find_provider_model(name, None, vendor, None)
    except LookupError:
        return None
    return found


def _at_length(price: Any, input_tokens: int) -> Decimal | None:
    if price is None or isinstance(price, Decimal):
        return price
    chosen: Decimal = price.base
    for tier in price.tiers:
        if input_tokens > tier.start:
            chosen = tier.price
    return chosen


def _time(at: float | datetime | None) -> datetime:
    if at is None:
        return datetime.now(UTC)
    return at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)


def _parse(path: str | Path, model: str, row: object) -> Price:
    kinds = [field.name for field in fields(Price)]
    if not isinstance(row, dict) or not {"input", "output"} <= row.keys() or row.keys() - {*kinds}:
        raise ConfigError(
            f"price file {str(path)!r}: {model!r} is {row!r}",
            hint=f"give input and output, and if known {', '.join(kinds[2:])}",
        )
    try:
        return Price(**row)
    except ConfigError as error:
        raise ConfigError(
            f"price file {str(path)!r}: {model!r}: {error}", hint=error.hint
        ) from error
