"""From a recipe and the user's options to a run's configuration."""

import os

from dfpkeras.cli.config import SETTINGS, TrainConfig, parse_setting
from dfpkeras.recipes import DIGITS, RecipeError, read_recipe, recipe_of

# Facts about the run, not hyper-parameters.
_NOT_IN_RECIPES = {"policies", "model", "recipe", "data", "steps_per_epoch", "seed"}


def configure(options):
    """Returns the configuration of a run.

    What the user gave takes precedence over the recipe; but the number of classes is that of the
    labels.txt in the data, if there is one. If the user changes the epochs or the image size, the
    recipe's values in epochs or pixels change in proportion.

    Args:
        options: dict of the fields of ``TrainConfig`` that the user gave.

    Returns:
        A ``TrainConfig``.

    Raises:
        RecipeError: the recipe cannot be used.
    """
    options = dict(options)
    model = options.get("model", TrainConfig.model)
    if options.get("data") is not None:
        options["data"] = os.path.abspath(options["data"])
        options = _known_classes(options["data"]) | options
    elif model.lower() != TrainConfig.model:
        # The smallest size that most models in keras.applications take.
        options.setdefault("image_size", 32)
    by_default = recipe_of(model) if options.get("data") is not None else DIGITS
    options.setdefault("recipe", by_default)
    return TrainConfig(**(_in_proportion(load_recipe(options["recipe"]), options) | options))


def _known_classes(directory):
    from dfpkeras.data.manifest import count_classes

    classes = count_classes(directory)
    return {"classes": classes} if classes else {}


def load_recipe(recipe):
    """Returns the hyper-parameters of a recipe, checked, as fields of ``TrainConfig``.

    Args:
        recipe: name, or path of a TOML file.

    Raises:
        RecipeError: there is no such recipe, or it has a setting that does not exist or a value
            that makes no sense.
    """
    content = read_recipe(recipe)
    content.pop("models")
    found = {}
    for name, value in content.items():
        if name in _NOT_IN_RECIPES:
            raise RecipeError(f"{recipe}: {name}: belongs to a run, not to a recipe")
        try:
            found[name] = parse_setting(name, value)
        except ValueError as error:
            raise RecipeError(f"{recipe}: {error}") from error
    return found


def _in_proportion(recipe, options):
    """A recipe's values, those that scale with the epochs or the image size in proportion."""
    changed = {}
    for name, value in recipe.items():
        base = SETTINGS[name].metadata.get("scales_with")
        if base in recipe and base in options and value != "auto":
            factor = options[base] / recipe[base]
            changed[name] = _scale(value, factor)
    return recipe | changed


def _scale(value, factor):
    if isinstance(value, tuple):
        return tuple(_scale(item, factor) for item in value)
    return round(value * factor) if isinstance(value, int) else value * factor
