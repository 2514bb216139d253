"""Every measure that shortens a cold start by changing what is not Lull's, each with its figure, behind one switch.

`LULL_PLAIN_START=true` turns all of them off; the API answers the same without them. They are in force from `begin`
to `end`, before the first request. A figure is the processor time of a process up to its first activation through
PostgREST, without the measure less with all (median of 16 processes each, interleaved, on one core of a busy machine,
CPython 3.11, packages of requirements.txt). All together save 180 ms of 589 ms.

Measures that are plain code, and always on: a feature is imported on the first request that it answers
(api/http/feature_app.py); PyJWT, prometheus_client and supabase-py beyond its PostgREST client are imported when the
first request needs them.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

IS_PLAIN = os.environ.get("LULL_PLAIN_START") == "true"
_LEFT_OUT = ("httpx._main", "h2")


def begin() -> None:
    """Prepare the imports of `api.index`. Call it before FastAPI is imported, and `end` after the app is made."""
    if IS_PLAIN:
        return
    _stop_collecting_garbage()
    _read_no_metadata_for_pydantic()
    _import_fastapi_without_its_document_models()
    _skip_the_search_for_pydantic_v1()
    _import_httpx_without_what_it_never_calls()


def end() -> None:
    """Take back what `begin` changed. What the imports made is left out of every later garbage collection."""
    if IS_PLAIN:
        return
    for name in _LEFT_OUT:
        if sys.modules.get(name, sys) is None:
            del sys.modules[name]
    gc.freeze()
    gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """Import a feature while requests are served: without garbage collection, as imports make no garbage."""
    if IS_PLAIN or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _stop_collecting_garbage() -> None:
    """Saves 16 ms: imports make no garbage."""
    gc.disable()


def _read_no_metadata_for_pydantic() -> None:
    """Leave out the search for plugins in every installed package: saves 2 ms, more where more is installed.

    PYDANTIC_DISABLE_PLUGINS in the environment wins.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def _import_fastapi_without_its_document_models() -> None:
    """Build FastAPI's models of an OpenAPI document when one is asked for, not at import: saves 43 ms."""
    from pydantic import BaseModel

    rebuild = vars(BaseModel)["model_rebuild"]

    def only_when_needed(model: type[BaseModel], /, **options: object) -> object:
        return rebuild.__func__(model, **options) if options else None

    BaseModel.model_config["defer_build"] = True
    BaseModel.model_rebuild = classmethod(only_when_needed)  # type: ignore[method-assign, assignment]
    try:
        import fastapi  # noqa: F401
    finally:
        BaseModel.model_rebuild = rebuild  # type: ignore[method-assign]
        del BaseModel.model_config["defer_build"]


def _skip_the_search_for_pydantic_v1() -> None:
    """Leave out the import of pydantic.v1, which FastAPI does only to ask of each type whether it is a model of it.

    Saves 19 ms. Lull has no such model. `import pydantic.v1` works as before.
    """
    import fastapi.encoders
    import fastapi.utils

    fastapi.utils.annotation_is_pydantic_v1 = lambda annotation: False  # type: ignore[attr-defined]  # noqa: ARG005
    fastapi.encoders.is_pydantic_v1_model_instance = lambda obj: False  # type: ignore[attr-defined]  # noqa: ARG005


def _import_httpx_without_what_it_never_calls() -> None:
    """Leave out httpx's command, with click and rich, and HTTP/2: Lull's client of PostgREST asks for HTTP/1.1.

    Saves 15 ms, and 71 ms where rich is installed. httpx and httpcore cope with their absence by themselves, and import
    HTTP/2 when a client asks for it. `end` takes the entries of sys.modules out again.
    """
    if "httpx" not in sys.modules:
        sys.modules.update(dict.fromkeys(_LEFT_OUT))  # type: ignore[arg-type]
