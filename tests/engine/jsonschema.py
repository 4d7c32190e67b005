"""The part of JSON Schema that the engine's schemas use, so that they can be tested without a library for it."""

import re
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
NOTES = {"$schema", "$id", "$defs", "title", "description", "default", "examples", "$comment"}


def allows(schema: Any, value: Any, root: dict[str, Any] | None = None) -> bool:
    """Whether a JSON value is as the schema says. A keyword that is not known here is a KeyError."""
    if isinstance(schema, bool):
        return schema
    whole = schema if root is None else root
    return all(RULES[key](rule, value, schema, whole) for key, rule in schema.items() if key not in NOTES)


def _resolve(reference: str, root: Any) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        root = root[name]
    return root


def _is(rule: str | list[str], value: Any) -> bool:
    names = [rule] if isinstance(rule, str) else rule
    return any(isinstance(value, TYPES[name]) and isinstance(value, bool) == (name == "boolean") for name in names)


def _matches(rule: str, value: str) -> bool:
    """A pattern as JSON Schema means it: its end is the end of the text, not the line break before it."""
    return re.search(rule.removesuffix("$") + r"\Z" if rule.endswith("$") else rule, value) is not None


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _properties(rule: dict[str, Any], value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    return not isinstance(value, dict) or all(allows(rule[key], value[key], root) for key in rule if key in value)


def _more_properties(rule: Any, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    patterns = schema.get("patternProperties", {})
    more = [key for key in value if key not in schema.get("properties", {})]
    more = [key for key in more if not any(_matches(pattern, key) for pattern in patterns)]
    return all(allows(rule, value[key], root) for key in more)


def _pattern_properties(rule: dict[str, Any], value: Any, schema: Any, root: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    return all(allows(part, value[key], root) for name, part in rule.items() for key in value if _matches(name, key))


def _items(rule: Any, value: Any, schema: Any, root: dict[str, Any]) -> bool:
    return not isinstance(value, list) or all(allows(rule, item, root) for item in value)


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


RULES: dict[str, Any] = {
    "$ref": lambda rule, value, schema, root: allows(_resolve(rule, root), value, root),
    "type": lambda rule, value, schema, root: _is(rule, value),
    "const": lambda rule, value, schema, root: _equal(rule, value),
    "enum": lambda rule, value, schema, root: any(_equal(item, value) for item in rule),
    "minimum": lambda rule, value, schema, root: not _number(value) or value >= rule,
    "maximum": lambda rule, value, schema, root: not _number(value) or value <= rule,
    "pattern": lambda rule, value, schema, root: not isinstance(value, str) or _matches(rule, value),
    "minLength": lambda rule, value, schema, root: not isinstance(value, str) or len(value) >= rule,
    "maxLength": lambda rule, value, schema, root: not isinstance(value, str) or len(value) <= rule,
    "minItems": lambda rule, value, schema, root: not isinstance(value, list) or len(value) >= rule,
    "maxItems": lambda rule, value, schema, root: not isinstance(value, list) or len(value) <= rule,
    "minProperties": lambda rule, value, schema, root: not isinstance(value, dict) or len(value) >= rule,
    "maxProperties": lambda rule, value, schema, root: not isinstance(value, dict) or len(value) <= rule,
    "required": lambda rule, value, schema, root: not isinstance(value, dict) or all(key in value for key in rule),
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _more_properties,
    "propertyNames": lambda rule, value, schema, root: (
        not isinstance(value, dict) or all(allows(rule, key, root) for key in value)
    ),
    "items": _items,
    "anyOf": lambda rule, value, schema, root: any(allows(part, value, root) for part in rule),
    "allOf": lambda rule, value, schema, root: all(allows(part, value, root) for part in rule),
    "oneOf": lambda rule, value, schema, root: sum(allows(part, value, root) for part in rule) == 1,
    "not": lambda rule, value, schema, root: not allows(rule, value, root),
    "if": lambda rule, value, schema, root: allows(
        schema.get("then" if allows(rule, value, root) else "else", True), value, root
    ),
    "then": lambda rule, value, schema, root: True,
    "else": lambda rule, value, schema, root: True,
}
