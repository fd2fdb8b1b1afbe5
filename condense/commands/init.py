"""`dmis init`: a recipe to edit, with the default and the meaning of every option."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel

from condense.json_values import JSON
from condense.pipeline.plan import Plan, Request, make_plan
from condense.run import atomic_write_text, prepare_output


def init(path: Path, request: Request, *, force: bool = False) -> dict[str, JSON]:
    """Write the recipe that `request` resolves to.

    Args:
        path: the YAML file.
        request: its data and method determine the defaults.
        force: whether an existing file is replaced.

    Returns:
        path and method.

    Raises:
        UserError: the data or the method cannot be used, or `path` exists.
    """
    plan = make_plan(request)
    prepare_output(path, force=force)
    atomic_write_text(path, recipe_text(plan, shlex.quote(str(path))))
    return {"path": str(path), "method": plan.recipe.method}


def recipe_text(plan: Plan, name: str) -> str:
    """The plan's recipe as commented YAML that reads back to the same plan."""
    size = "x".join(map(str, plan.source.train.images.shape[1:]))
    header = [
        f"# {(plan.method.__doc__ or plan.recipe.method).strip().splitlines()[0]}",
        f"# Use: dmis condense -c {name}",
        f"# Every option of the method, with its default for images of {size}; deleted lines keep their default.",
        "# The command line overrides this file: --ipc 50, --set data.noise=sym:0.2",
        "",
    ]
    left_out = {"options", "labeller"}
    body = [*_fields(plan.recipe, left_out, ""), *_fields(plan.options, set(), "")]
    return "\n".join([*header, *body]) + "\n"


def _fields(model: BaseModel, left_out: set[str], indent: str) -> Iterator[str]:
    """One line per field, followed by its description; a section for a field with fields of its own."""
    plain = model.model_dump(mode="json")
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name in left_out:
            continue
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:  # {(type(value).__doc__ or name).strip().splitlines()[0]}"
            yield from _fields(value, set(), indent + "  ")
        else:
            comment = f"  # {field.description}" if field.description else ""
            yield f"{indent}{name}: {_scalar(plain[name])}{comment}"


def _scalar(value: object) -> str:
    """A plain value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
