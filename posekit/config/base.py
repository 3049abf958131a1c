"""Reading YAML into typed models, with errors that name file, key and the nearest valid key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from posekit.errors import ConfigError, nearest

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of all cards and recipes: unknown keys are errors, values finite and unchanging."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


_DEEPEST = 2_000


class _StrictKeys(yaml.constructor.SafeConstructor):
    """Constructor that refuses odd and repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, (str, int, float)):
                problem = f"found {key!r} as a key, expected text"
            elif key in seen:
                problem = f"key '{key}' appears twice"
            if problem:
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Loader(_StrictKeys, yaml.SafeLoader):
    """The loader in Python."""


class _FastLoader(_StrictKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same on libyaml, where PyYAML was built with it: ten times as fast."""


for _loader in (_Loader, _FastLoader):
    # YAML 1.1 wants a dot in every float; nobody who writes 1e-3 means text.
    _loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z"),
        list("-+0123456789"),
    )


def _load(text: str) -> Any:
    """Parse YAML; what is wrong is told by the loader in Python, whose sentences do not vary.

    libyaml's own recursion has no limit, so a text that could be nested deeply is left to Python:
    each level takes a bracket or a column of indentation.
    """
    brackets = text.count("[") + text.count("{")
    if brackets + max(map(len, text.splitlines()), default=0) < _DEEPEST:
        try:
            return yaml.load(text, Loader=_FastLoader)  # noqa: S506 - a SafeLoader
        except (yaml.YAMLError, ValueError):
            pass
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def read_yaml(file: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{file}: cannot be read ({reason})") from None
    return parse_mapping(text, str(file))


def parse_mapping(text: str, where: str) -> dict[str, Any]:
    """Parse YAML text that must hold one mapping; ConfigError names `where`."""
    try:
        data = _load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"{where}{line}: not valid YAML: {problem}") from None
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{where}: not valid YAML: {reason}") from None
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise ConfigError(f"{where}: found {found}, expected a mapping of keys to values")
    return data


def parse_value(text: str) -> Any:
    """Parse the right side of a `key.path=value` setting as YAML; plain text stays text."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError):
        return text


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` upon `base` key by key; mappings merge, anything else is replaced.

    A key whose value is null in `over` and a mapping in `base` is taken out, so that a recipe can
    drop a head that it inherits.
    """
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        elif value is None and isinstance(merged.get(key), Mapping):
            del merged[key]
        else:
            merged[key] = value
    return merged


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply `key.path=value` settings in order; ConfigError if one has no '='."""
    result = dict(data)
    for setting in overrides:
        path, equals, text = setting.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"setting '{setting}': expected key.path=value")
        nested: Any = parse_value(text)
        for part in reversed(parts):
            nested = {part: nested}
        result = merge(result, nested)
    return result


def validate(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """Turn a mapping into a typed model.

    Raises:
        ConfigError: one line for each wrong key: where, key path, what was found and expected.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(model, item) for item in error.errors()]
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None


def _explain(model: type[BaseModel], item: Any) -> str:
    path = [part for part in item["loc"] if not _is_union_tag(part)]
    key = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        siblings = _fields_at(model, path[:-1])
        hint = nearest(str(path[-1]), siblings)
        return f"unknown key '{key}'{hint or _valid(siblings)}"
    if item["type"] == "missing":
        return f"key '{key}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    message = re.sub(r"dictionary or instance of \w+", "mapping", message)
    found = item["input"]
    shown = "" if isinstance(found, dict) else f", found {found!r}"
    return f"key '{key}': {message}{shown}" if key else message


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and ("[" in part or part.startswith("function-"))


def _valid(names: list[str]) -> str:
    return f" (valid: {', '.join(sorted(names))})" if names else ""


def _fields_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    current: Any = model
    for part in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            current = _value_type(current)
            continue
        field = _by_key(current).get(str(part))
        if field is None:
            return []
        current = field.annotation
        current = _model_in(current) or current
    current = _model_in(current)
    return list(_by_key(current)) if current else []


def _by_key(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _value_type(annotation: Any) -> Any:
    arguments = get_args(annotation)
    return _model_in(arguments[-1]) or arguments[-1] if arguments else annotation


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        for argument in get_args(annotation):
            if found := _model_in(argument):
                return found
    return None
