"""Seeded rows for the worked pairs in sql/pairs: everything that the tables' constraints allow."""

from __future__ import annotations

import random
from typing import Any

Row = dict[str, Any]

TYPES = ["string", "dict", "HashMap", "float", "tuple", "any", "String", "long", "odd", "", 5, None]
NAMES = ["city", "days", "", "required", "type", "properties", "x-legacy", "é\n'\"\\", "a.b"]
LARGEST_CENTS = 9_999_999_999_999_999


class Rows:
    """Rows of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def uuid(self) -> str:
        return f"{self.random.getrandbits(128):032x}"

    def text(self) -> str:
        return str(self.pick("", " ", "plain", "é𝄞", "line\nbreak", "NULL", "{}", "'\"\\", "0"))

    def time(self) -> str:
        return str(
            self.pick(
                "2026-05-01T10:00:00.123456+00", "infinity", "-infinity", "1999-12-31", "epoch"
            )
        )

    def json(self, depth: int = 0) -> Any:
        leaf = self.pick(None, True, False, 0, 1.5, 10**18, self.text(), [], {})
        if depth > 2 or self.random.random() < 0.6:
            return leaf
        return self.pick([leaf, self.json(depth + 1)], {self.text(): self.json(depth + 1)})

    # Customers and orders -------------------------------------------------------------------------

    def customer(self) -> Row:
        return {
            "id": self.random.randrange(1, 10**18),
            "user_id": self.pick(None, self.uuid()),
            "full_name": self.text(),
            "email": self.pick(None, self.text()),
            "created_at": self.time(),
        }

    def customer_v2(self) -> Row:
        contact = {"phone": self.json()} if self.pick(True, False) else {}
        return {
            "id": self.random.randrange(1, 10**18),
            "owner_id": self.pick(None, self.uuid()),
            "name": self.text(),
            "contact": contact | self.pick({}, {"email": self.text()}),
            "locale": self.pick(None, "nb", ""),
            "created_at": self.time(),
        }

    def cents(self) -> int:
        return int(self.pick(0, 1, 99, 100, self.random.randrange(10**6), LARGEST_CENTS))

    def order(self) -> Row:
        total = self.cents()
        return {
            "customer_id": self.random.randrange(1, 10**6),
            "number": self.random.randrange(-(10**6), 10**18),
            "status": self.pick("new", "paid", "shipped", "cancelled"),
            "total_cents": total,
            "discount_cents": self.pick(0, total, total // 3),
            "note": self.pick(None, self.text()),
            "placed_at": self.time(),
        }

    def order_v2(self) -> Row:
        v1 = self.order()
        return {
            **{key: v1[key] for key in ("customer_id", "number", "note", "placed_at")},
            "status": self.pick(v1["status"], "refunded", "refunded"),
            "total": money(v1["total_cents"]),
            "discount": money(v1["discount_cents"]),
            "shipping": self.pick({}, {"street": self.text()}),
        }

    # Events ---------------------------------------------------------------------------------------

    def event(self) -> Row:
        return {
            "id": self.random.randrange(1, 10**18),
            "user_id": self.pick(None, self.uuid()),
            "name": self.text(),
            "properties": self.pick({}, [], {"a": self.json()}),
            # Of this month, of no month, and infinity: all that the partitions must take.
            "occurred_at": self.pick(self.time(), "now"),
        }

    def event_v2(self) -> Row:
        v1 = self.event()
        return {
            **{key: v1[key] for key in ("id", "name", "properties", "occurred_at")},
            "owner_id": v1["user_id"],
            "source": self.pick(None, self.text()),
        }

    # Tools ----------------------------------------------------------------------------------------

    def tool(self) -> Row:
        return {
            "id": self.uuid(),
            "user_id": self.pick(None, self.uuid()),
            "name": self.text(),
            "description": self.pick(None, self.text()),
            "parameters": self.parameters(),
            "enabled": self.pick(True, False),
            "created_at": self.time(),
        }

    def tool_v2(self) -> Row:
        return {
            "id": self.uuid(),
            "owner_id": self.pick(None, self.uuid()),
            "name": self.text(),
            "title": self.pick(None, self.text()),
            "description": self.pick(None, self.text()),
            "input_schema": self.schema(),
            "output_schema": self.json(),
            "strict": self.pick(None, True, False),
            "annotations": self.pick({}, {"read_only": True}),
            "is_enabled": self.pick(True, False),
            "created_at": self.time(),
        }

    def parameters(self, depth: int = 0) -> Row:
        count = self.random.randrange(4)
        return {self.name(): self.parameter(depth) for _ in range(count)}

    def name(self) -> str:
        return self.random.choice(NAMES)

    def parameter(self, depth: int) -> Any:
        if self.random.random() < 0.15:
            return self.json()
        found: Row = {"description": self.text()}
        if self.pick(True, True, False):
            found["type"] = self.random.choice(TYPES)
        if self.pick(True, False):
            found["required"] = self.pick(True, True, False, None, "yes", ["a"])
        if self.random.random() < 0.1:
            found[self.pick("x-legacy", "x-legacy-type", "x-legacy-required")] = self.json()
        if depth < 3 and self.random.random() < 0.4:
            found["properties"] = self.parameters(depth + 1)
        if self.random.random() < 0.1:
            found["properties"] = self.json()
        return found

    def schema(self, depth: int = 0) -> Row:
        found: Row = self.pick({}, {"type": "object"}, {"additionalProperties": False})
        names = [self.name() for _ in range(self.random.randrange(4))]
        if self.random.random() < 0.8:
            found = found | {"properties": {name: self.property(depth) for name in names}}
        if self.random.random() < 0.7:
            required = [*self.random.sample(names, len(names) // 2), "no such property", 5, None]
            found = found | {"required": self.random.sample(required, len(required))}
        if self.random.random() < 0.1:
            found = found | {self.pick("properties", "required"): self.json()}
        return found

    def property(self, depth: int) -> Any:
        if self.random.random() < 0.15:
            return self.json()
        found: Row = {"description": self.text(), "type": self.random.choice(TYPES)}
        if self.random.random() < 0.3:
            found[self.pick("x-legacy", "x-legacy-type", "x-legacy-required")] = self.json()
        return found | (self.schema(depth + 1) if depth < 3 and self.pick(True, False) else {})


def money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def deep_parameters(levels: int) -> Row:
    """Parameters that nest so deep that a converter which follows them would run out of stack."""
    found: Row = {"leaf": {"type": "string", "required": True}}
    for _ in range(levels):
        found = {"inner": {"type": "dict", "required": True, "properties": found}}
    return found
