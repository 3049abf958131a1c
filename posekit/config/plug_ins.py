"""Parts by name: built in, offered by an installed package, or code that the user allows to run.

Adapters, codecs, decoders, losses and evaluators are all found here. A card can name code as
`file.py:Name` beside it or as `package.module:Name`; cards, runs and models are exchanged, so such
code runs only inside `code_allowed`, which the command line enters for `--allow-code` and the
Python functions for `allow_code=True`. Nothing that is read from a file can enter it.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar

from posekit.config.base import Model, validate
from posekit.errors import ConfigError, nearest

Part = TypeVar("Part")
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_CODE = re.compile(r"(?P<target>.+):(?P<attribute>\w+)(?:#(?P<sha256>[0-9a-f]{64}))?\Z")
_ALLOWED: ContextVar[bool] = ContextVar("posekit_allow_code", default=False)


@contextmanager
def code_allowed(allowed: bool = True) -> Iterator[None]:
    """Let code that cards name run inside, if `allowed` or allowed outside already."""
    token = _ALLOWED.set(_ALLOWED.get() or allowed)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def takes_allow_code(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Run a function inside `code_allowed` with its own keyword argument `allow_code`."""

    @wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with code_allowed(bool(kwargs.get("allow_code", False))):
            return function(*args, **kwargs)

    return call


@dataclass(frozen=True)
class Parts(Generic[Part]):
    """All parts of one kind.

    Attributes:
        word: the kind in messages; posekit.WORDs is its group of entry points.
        built_in: name -> part.
        is_part: whether an object was made as such a part; anything else is refused, so that a
            name like `shutil:rmtree` is never called.
        made_as: what `is_part` expects, in words.
    """

    word: str
    built_in: Mapping[str, Part]
    is_part: Callable[[Any], bool]
    made_as: str

    @property
    def group(self) -> str:
        """The group of entry points in which installed packages offer such parts."""
        return f"posekit.{self.word}{'es' if self.word.endswith('s') else 's'}"

    def names(self) -> list[str]:
        """Return the names without a colon: built-ins and entry points."""
        return sorted({*self.built_in, *(point.name for point in entry_points(group=self.group))})

    def get(self, name: str, where: str, folder: Path = Path()) -> Part:
        """Return a part by its name in a card; only the named one is imported.

        Args:
            name: a built-in, an entry point, `package.module:Name` or `file.py:Name`; the last
                may be followed by '#' and the SHA-256 that the file must have (see `pin`).
            where: what messages call the place that names it, such as the card's file.
            folder: what a relative file.py is relative to: the card's folder.

        Raises:
            ConfigError: there is no such part, it is code that is not allowed to run or was
                changed, it cannot be imported, or it was not made as such a part.
        """
        if name in self.built_in:
            return self.built_in[name]
        if offered := tuple(entry_points(group=self.group, name=name)):
            what = f"{where}: {self.word} '{name}'"
            part = _import(offered[0].load, what)
        elif code := _CODE.match(name):
            self._require_consent(code, where, folder)
            target, attribute, sha256 = code.groups()
            what = f"{where}: {self.word} '{target}:{attribute}'"
            if target.endswith(".py"):
                module = _load_file(_absolute(folder, target), sha256, what)
            else:
                module = _import(lambda: importlib.import_module(target), what)
            if attribute not in vars(module):
                hint = nearest(attribute, [n for n in vars(module) if not n.startswith("_")])
                raise ConfigError(f"{what}: the module has no '{attribute}'{hint}")
            part = vars(module)[attribute]
        else:
            raise ConfigError(
                f"{where}: there is no {self.word} '{name}'{nearest(name, self.names())} (built "
                f"in: {', '.join(sorted(self.built_in))}; or file.py:Name, package.module:Name)"
            )
        if not self.is_part(part):
            raise ConfigError(f"{what} is not made as one; expected {self.made_as}")
        return part

    def pin(self, name: str, where: str, folder: Path = Path()) -> str:
        """Return the name with a file's absolute path and SHA-256, for runs and models to keep.

        Other names are returned as they are.

        Raises:
            ConfigError: it is code that is not allowed to run, or the file cannot be read.
        """
        code = None if name in self.built_in else _CODE.match(name)
        if code is None:
            return name
        self._require_consent(code, where, folder)
        target, attribute, sha256 = code.groups()
        if sha256 or not target.endswith(".py"):
            return name
        file = _absolute(folder, target)
        return f"{file}:{attribute}#{_read(file, f'{where}: {self.word} {name!r}')[1]}"

    def pin_kind(
        self, config: Mapping[str, Any], where: str, folder: Path = Path()
    ) -> dict[str, Any]:
        """Return a head's mapping with its `kind` pinned."""
        kind = config.get("kind")
        return {**config, "kind": self.pin(str(kind), where, folder)} if kind else dict(config)

    def kind_of(self, config: Mapping[str, Any], where: str) -> Part:
        """Return the part that a head's mapping names under `kind`."""
        kind = config.get("kind")
        if kind is None:
            names = ", ".join(sorted(self.built_in))
            raise ConfigError(f"{where}: key 'kind' is missing (valid: {names})")
        return self.get(str(kind), where)

    def _require_consent(self, code: re.Match[str], where: str, folder: Path) -> None:
        if _ALLOWED.get():
            return
        target, attribute = code["target"], code["attribute"]
        place = _absolute(folder, target) if target.endswith(".py") else f"the module {target}"
        raise ConfigError(
            f"{where}: {self.word} '{Path(target).name}:{attribute}' is code in {place}, which "
            "runs only if you allow it; read it, then add --allow-code (allow_code=True in Python)"
        )


def is_unpinned_file(name: str) -> bool:
    """Return whether a name is that of a file's code without the SHA-256 that `pin` adds."""
    code = _CODE.match(name)
    return code is not None and code["target"].endswith(".py") and not code["sha256"]


def settings_of(model: type[Model], config: Mapping[str, Any], where: str) -> Model:
    """Return a part's settings; `kind`, which chose the part, need not be one of its keys."""
    keys = {key: config[key] for key in config if key != "kind" or key in model.model_fields}
    return validate(model, keys, where)


def _absolute(folder: Path, target: str) -> Path:
    return (folder / Path(target).expanduser()).resolve()


def _read(file: Path, what: str) -> tuple[bytes, str]:
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = "there is no file" if not file.exists() else f"{error.strerror}:"
        raise ConfigError(f"{what}: {reason} {file}") from None
    return content, hashlib.sha256(content).hexdigest()


def _load_file(file: Path, expected: str | None, what: str) -> ModuleType:
    content, found = _read(file, what)
    if expected not in {None, found}:
        raise ConfigError(
            f"{what}: {file} is not the file that was recorded (SHA-256 {found[:12]}..., expected "
            f"{str(expected)[:12]}...); put the recorded file there, or train again with this one"
        )
    name = f"posekit_code_{hashlib.sha256(f'{file}{found}'.encode()).hexdigest()[:16]}"
    if name in sys.modules:  # the same classes each time, so that isinstance holds
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(file)

    def run() -> ModuleType:
        # The bytes whose hash was checked, not the file again, which may be another by now.
        exec(compile(content, str(file), "exec"), module.__dict__)  # noqa: S102
        return module

    sys.modules[name] = module  # dataclasses and pydantic look annotations up there
    try:
        return _import(run, what)
    except ConfigError:
        del sys.modules[name]
        raise


def _import(load: Callable[[], Any], what: str) -> Any:
    try:
        return load()
    # The user's module runs here; whatever it raises is a fault of that part.
    except Exception as error:
        raise ConfigError(f"{what} cannot be imported ({type(error).__name__}: {error})") from error
