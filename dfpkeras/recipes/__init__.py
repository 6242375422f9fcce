"""Published hyper-parameters, one TOML file per network.

A recipe's ``models`` are the names it is for (in lower case, without "-" and "_"); every other key
is a field of ``dfpkeras.cli.config.TrainConfig``.
"""

import tomllib
from pathlib import Path

DIRECTORY = Path(__file__).parent
DEFAULT = "default"
DIGITS = "digits"


class RecipeError(ValueError):
    """A recipe cannot be used: the message names it and what is wrong."""


def recipe_names():
    """Returns the names of the recipes that come with dfpkeras."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def recipe_of(model):
    """Returns the name of the recipe for a model: ``"default"`` if it has none of its own."""
    key = model.lower().replace("-", "").replace("_", "")
    matches = (name for name in recipe_names() if key in read_recipe(name)["models"])
    return next(matches, DEFAULT)


def read_recipe(recipe):
    """Reads a recipe.

    Args:
        recipe: one of ``recipe_names()``, or the path of a file whose name ends in .toml.

    Returns:
        Its content as a dict, unchecked; ``"models"`` is always present.

    Raises:
        RecipeError: there is no such recipe, or it is not a TOML file.
    """
    if not recipe.endswith(".toml") and recipe not in recipe_names():
        raise RecipeError(
            f"{recipe}: no such recipe; expected one of {', '.join(recipe_names())}, or a file "
            "whose name ends in .toml"
        )
    path = Path(recipe) if recipe.endswith(".toml") else DIRECTORY / f"{recipe}.toml"
    try:
        return {"models": []} | tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"{path}: is not a TOML file: {error}") from error
