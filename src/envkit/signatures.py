"""What a model may pass to a function: the JSON schema of its parameters, and what reads a call's arguments by it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_origin, get_type_hints

import orjson
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.fields import FieldInfo

from envkit.docstrings import described

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SHOWN = 80
"""Characters of a wrong argument, or of a name that is none, that are said back to the model."""
MISTAKES = 5
"""Wrong arguments that are named in one answer."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a model is told of a function, and what reads its arguments."""

    description: str
    parameters: dict[str, Any]
    """The JSON schema of its arguments."""
    arguments: Callable[[str], dict[str, Any]]
    """Reads a call's JSON as what the function takes; ValueError with a sentence that the model can act on."""


def described_by_signature(function: Callable[..., Any], name: str) -> Described:
    """The function, closure, method, partial or callable object as a model calls it, under this name.

    What a partial fills already is not the model's to say. TypeError for what cannot be called by name, and for what
    has no signature in Python: classes and builtins.
    """
    plain, filled, fixed = _opened(function, name)
    return _described(_Signature(plain, name, filled=filled, fixed=fixed))


def json_object(name: str, text: str) -> dict[str, Any]:
    """The arguments of a call of the tool `name` as JSON; ValueError with a sentence for the model."""
    try:
        raw = orjson.loads(text or "{}")
    except orjson.JSONDecodeError as error:
        raise ValueError(f"The arguments of '{name}' are not JSON ({error}). Send one JSON object.") from None
    if not isinstance(raw, dict):
        raise ValueError(f"The arguments of '{name}' must be one JSON object, not {type(raw).__name__}.")
    return cast("dict[str, Any]", raw)


def as_json(value: object) -> str:
    """The value as JSON; as Python writes it where it is none."""
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError:
        return str(value)


def shown(text: str) -> str:
    """What a model wrote, cut to what a sentence can hold."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _opened(function: Any, name: str) -> tuple[FunctionType, int, frozenset[str]]:
    """(the function in what wraps it, how many of its first parameters are filled, the names of others that are)."""
    if isinstance(function, partial):
        wrapped = cast("partial[Any]", function)
        plain, filled, fixed = _opened(wrapped.func, name)
        return plain, filled + len(wrapped.args), fixed.union(wrapped.keywords)
    if inspect.ismethod(function):
        plain, filled, fixed = _opened(function.__func__, name)
        return plain, filled + 1, fixed
    if (inner := getattr(function, "__wrapped__", None)) is not None:
        return _opened(inner, name)
    if isinstance(function, FunctionType):
        return function, 0, frozenset()
    called: Any = getattr(cast("Any", type(function)), "__call__", None)  # noqa: B004 - for its code
    if inspect.isclass(function) or not isinstance(called, FunctionType):
        raise TypeError(f"tool '{name}' has no signature that can be read: wrap it in a function of your own")
    plain, filled, fixed = _opened(called, name)
    return plain, filled + 1, fixed


class _Signature:
    """A function as a cache key: closures of one `def` share a code object, and so one schema, unless what they say of
    their parameters differs all the same."""

    def __init__(self, function: FunctionType, name: str, *, filled: int, fixed: frozenset[str]) -> None:
        self.function: FunctionType | None = function
        self.name, self.filled, self.fixed = name, filled, fixed
        self.globals = function.__globals__
        """In which annotations that are text are looked up; kept, so that its id stays its own."""
        self.key = (
            function.__code__,
            name,
            filled,
            fixed,
            function.__doc__,
            id(self.globals),
            tuple([(parameter, _alike(hint)) for parameter, hint in function.__annotations__.items()]),
            tuple([_told(default) for default in function.__defaults__ or ()]),
            tuple([(parameter, _told(default)) for parameter, default in (function.__kwdefaults__ or {}).items()]),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Signature) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _alike(hint: Any) -> Any:
    """A hashable that is the same for annotations that say the same. Classes are themselves: two may have one name."""
    if isinstance(hint, (str, type)) and not get_args(hint):
        return hint
    if isinstance(hint, FieldInfo):
        return _told(hint)
    if origin := get_origin(hint):
        return origin, tuple([_alike(part) for part in get_args(hint)])
    try:
        hash(hint)
    except TypeError:
        return type(hint), repr(hint)
    return type(hint), hint


def _told(default: Any) -> Any:
    """What a schema says of a default, as a hashable; a factory is itself."""
    return (repr(default), default.default_factory) if isinstance(default, FieldInfo) else repr(default)


@lru_cache(maxsize=1024)
def _described(signature: _Signature) -> Described:
    function, name = signature.function, signature.name
    assert function is not None, "a signature is described once"
    signature.function = None  # the cache keeps the key, and not a closure with all that a rollout has in it
    description, about = described(inspect.getdoc(function) or "")
    hints = _hints(function, name)
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    with_defaults: set[str] = set()
    for parameter in list(inspect.signature(function).parameters.values())[signature.filled :]:
        if parameter.name in signature.fixed:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"tool '{name}' cannot take {parameter}: a model passes arguments by name")
        field = f"p{len(fields)}"  # what a parameter is called is nothing that pydantic lets every field be called
        names[field] = parameter.name
        fields[field] = (
            _annotated(hints.get(parameter.name, Any), parameter.name, about.get(parameter.name)),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        if isinstance(parameter.default, FieldInfo):
            with_defaults.add(field)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    except PydanticUserError as error:
        raise TypeError(f"tool '{name}' takes what no model can say: {str(error).splitlines()[0]}") from error
    schema = model.model_json_schema()
    schema.pop("title", None)
    return Described(description, schema, partial(_validated, model, name, names, with_defaults, _extra(model)))


def _hints(function: FunctionType, name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"tool '{name}' has an annotation that cannot be read ({error}): annotations that are text, as after "
            "`from __future__ import annotations`, name what the module itself defines."
        ) from error


def _annotated(hint: Any, name: str, description: str | None) -> Any:
    """The annotation with the parameter's name and description; what the author says of either beside it wins."""
    said = Field(alias=name) if description is None else Field(alias=name, description=description)
    if get_origin(hint) is Annotated:
        bare, *more = get_args(hint)
        return Annotated[(bare, said, *more)]  # pyright: ignore[reportInvalidTypeForm]
    return Annotated[hint, said]


def _extra(model: type[BaseModel]) -> Any:
    """What to say of unknown keys in nested models: they are forbidden there as well, unless one says otherwise itself.

    pydantic can forbid them in all or leave it to each.
    """

    def says(schema: Any) -> bool:
        if isinstance(schema, dict):
            told = cast("dict[str, Any]", schema)
            if told.get("extra_fields_behavior") in ("allow", "ignore"):
                return True
            return any(says(part) for part in told.values())
        return isinstance(schema, list | tuple) and any(says(part) for part in cast("list[Any]", schema))

    return None if says(model.__pydantic_core_schema__) else "forbid"


def _validated(
    model: type[BaseModel], name: str, names: dict[str, str], with_defaults: set[str], extra: Any, text: str
) -> dict[str, Any]:
    """The arguments as the function takes them, by its parameters' `names`. Strictly: a "3" is no number, and nothing
    is left out or added but what a nested model itself lets fall. `with_defaults` are given in any case, since their
    default is not the function's but a `Field`'s."""
    json_object(name, text)
    try:
        given = model.model_validate_json(text or "{}", strict=True, extra=extra)
    except ValidationError as error:
        wrong = "; ".join(map(_mistake, error.errors(include_url=False)[:MISTAKES]))
        raise ValueError(f"The arguments of '{name}' do not fit: {wrong}.") from None
    said = given.model_fields_set | with_defaults
    return {parameter: getattr(given, field) for field, parameter in names.items() if field in said}


def _mistake(error: ErrorDetails) -> str:
    """One thing that is wrong with the arguments: where, what was expected, and what came."""
    where = ".".join(shown(str(step)) for step in error["loc"])
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where} is no argument of it"
    return f"{where}: {error['msg']}, and {shown(as_json(error['input']))} came"
