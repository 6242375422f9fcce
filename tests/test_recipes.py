"""Recipes: the content of their files, and how a run's configuration follows from one."""

import dataclasses
import json

import pytest

from dfpkeras.cli.config import SETTINGS, TrainConfig, parse_setting
from dfpkeras.cli.configure import configure, load_recipe
from dfpkeras.data.preparation import ImagePreparation
from dfpkeras.recipes import RecipeError, read_recipe, recipe_names, recipe_of

OF_A_RUN = {"policies", "model", "recipe", "data", "steps_per_epoch", "seed"}
# Settings of a schedule or a crop, which only matter if that one is used.
OF_A_CHOICE = {
    "steps": {"decay_epochs", "decay_factor"},
    "exponential": {"decay_every_epochs", "decay_factor"},
    "cosine": set(),
    "random-resized": {"crop_area", "crop_aspect_ratio"},
    "random": {"train_resize"},
    "pad": {"pad"},
}
IMAGENET = ("resnet50", "vgg16", "googlenet", "alexnet", "default")


def write_recipe(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_a_conversion_tells_the_number_of_classes(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\nfish\n")
    data = str(tmp_path)
    assert configure({"model": "resnet50", "data": data}).classes == 3
    assert configure({"model": "resnet50", "data": data, "classes": 7}).classes == 7


# The files


def test_the_recipes_are_all_there():
    assert recipe_names() == sorted([*IMAGENET, "digits", "resnet20"])


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_leaves_nothing_to_defaults_elsewhere(name):
    recipe = load_recipe(name)
    choices = {recipe["schedule"], recipe.get("train_crop")}
    unused = set().union(*(names for choice, names in OF_A_CHOICE.items() if choice not in choices))
    unused -= set().union(*(OF_A_CHOICE[choice] for choice in choices if choice))
    expected = set(SETTINGS) - OF_A_RUN - unused
    if name == "digits":
        images = {field for field in SETTINGS if SETTINGS[field].metadata["group"] == "images"}
        expected -= images | {"weight_decay_exempt"}
    assert set(recipe) == expected


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("ResNet50", "resnet50"),
        ("resnet-50_v1.5", "resnet50"),
        ("VGG19", "vgg16"),
        ("googlenet-bn", "googlenet"),
        ("AlexNet-grouped", "alexnet"),
        ("resnet-small", "resnet20"),
        ("MobileNetV2", "default"),
        ("mine:function", "default"),
    ],
)
def test_every_model_has_a_recipe(model, recipe):
    assert recipe_of(model) == recipe


def test_no_model_has_two_recipes():
    models = [model for name in recipe_names() for model in read_recipe(name)["models"]]
    assert len(models) == len(set(models)) >= 10


def test_published_values():
    """Spot checks against the papers; schedules are tested in test_training_setup.py."""
    resnet50, vgg16, googlenet, alexnet, resnet20 = map(
        load_recipe, ("resnet50", "vgg16", "googlenet", "alexnet", "resnet20")
    )
    assert resnet50["weight_decay_exempt"] == ("gamma", "beta")
    assert (resnet50["learning_rate"], resnet50["base_batch_size"]) == (0.1, 256)
    assert (vgg16["train_resize"], vgg16["weight_decay"], vgg16["epochs"]) == ((256, 512), 5e-4, 74)
    assert googlenet["auxiliary_weights"] == (0.3, 0.3)
    assert (alexnet["batch_size"], alexnet["lighting"]) == (128, 0.1)
    assert resnet20["epochs"] * 50000 / 128 == pytest.approx(64000, rel=0.002)
    assert resnet20["decay_epochs"] == (82, 123)


@pytest.mark.parametrize("name", [*IMAGENET, "resnet20"])
def test_the_data_pipeline_takes_what_a_recipe_says_of_images(name):
    config = configure({"data": "/somewhere", "recipe": name})
    fields = {field.name for field in dataclasses.fields(ImagePreparation)}
    images = {field for field in SETTINGS if SETTINGS[field].metadata["group"] == "images"}
    assert images == fields
    prepared = config.preparation()
    assert {field: getattr(prepared, field) for field in fields} == {
        field: getattr(config, field) for field in fields
    }
    prepared.check_image_size(config.image_size)


def test_without_a_recipe_images_are_prepared_as_the_pipeline_does_by_default():
    assert TrainConfig().preparation() == ImagePreparation()


# From a recipe to a configuration


def test_the_digits_are_the_default():
    assert configure({}) == TrainConfig()
    assert configure({}).recipe == "digits"


def test_options_take_precedence_over_the_recipe():
    config = configure({"model": "resnet50", "data": "/x", "learning_rate": 0.2, "nesterov": False})
    assert (config.learning_rate, config.nesterov, config.recipe) == (0.2, False, "resnet50")
    assert (config.epochs, config.image_size, config.classes) == (90, 224, 1000)


def test_another_recipe_for_a_model():
    assert configure({"model": "a:b", "data": "/x", "recipe": "vgg16"}).weight_decay == 5e-4


def test_a_recipe_of_ones_own(tmp_path):
    recipe = write_recipe(tmp_path, "epochs = 3\ndecay_epochs = [1, 2.5]\nnesterov = false\n")
    config = configure({"data": "/x", "recipe": recipe})
    assert (config.epochs, config.decay_epochs, config.nesterov) == (3, (1.0, 2.5), False)
    assert config.recipe == recipe


def test_other_epochs_stretch_the_schedule():
    config = configure({"model": "resnet50", "data": "/x", "epochs": 18})
    assert (config.warmup_epochs, config.decay_epochs) == (1.0, (6.0, 12.0, 16.0))
    given = configure({"model": "resnet50", "data": "/x", "epochs": 18, "warmup_epochs": 3.0})
    assert given.warmup_epochs == 3.0
    assert given.decay_epochs == config.decay_epochs


def test_another_image_size_changes_what_is_measured_in_pixels():
    config = configure({"model": "vgg16", "data": "/x", "image_size": 32})
    assert (config.train_resize, config.evaluation_resize) == ((37, 73), 37)
    assert configure({"model": "resnet20", "data": "/x", "image_size": 64}).pad == 8
    with_auto = {"model": "vgg16", "data": "/x", "image_size": 32, "evaluation_resize": "auto"}
    assert configure(with_auto).evaluation_resize == "auto"


@pytest.mark.parametrize("name", recipe_names())
def test_a_configuration_survives_json(name):
    config = configure({"data": "/x", "recipe": name, "policies": ("dfp16", "float32")})
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


# Wrong recipes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate = 0.1", "lerning_rate: there is no such setting"),
        ("epochs = 2.5", "epochs: must be an integer of at least 1, got 2.5"),
        ("epochs = true", "epochs: must be an integer of at least 1, got True"),
        ("learning_rate = nan", "learning_rate: must be a number greater than 0"),
        ("nesterov = 1", "nesterov: must be true or false, got 1"),
        ('schedule = "linear"', "schedule: must be one of cosine, steps, exponential, got linear"),
        ("decay_epochs = 30", "decay_epochs: must be a list of several values, got 30"),
        ("decay_epochs = [0]", "decay_epochs: must be a number greater than 0"),
        ("momentum = [0.9]", "momentum: must be one value"),
        ("std = [0.2, 0.2]", "std: must be a list of 3 values"),
        ("label_smoothing = 1", "label_smoothing: must be a number of at least 0 and less than 1"),
        ("seed = 1", "seed: belongs to a run"),
        ("epochs =", "is not a TOML file"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, text, message):
    recipe = write_recipe(tmp_path, text)
    with pytest.raises(RecipeError) as error:
        configure({"data": "/x", "recipe": recipe})
    assert message in str(error.value)
    assert recipe in str(error.value)


def test_a_recipe_that_does_not_exist(tmp_path):
    with pytest.raises(RecipeError, match=r"resnet51: no such recipe; expected one of alexnet, "):
        load_recipe("resnet51")
    with pytest.raises(RecipeError, match=r"none\.toml: cannot be read"):
        load_recipe(str(tmp_path / "none.toml"))


def test_numbers_keep_their_kind():
    assert parse_setting("decay_epochs", [1, 2]) == (1.0, 2.0)
    assert isinstance(parse_setting("decay_epochs", [1])[0], float)
    assert isinstance(parse_setting("evaluation_resize", 256), int)
    assert parse_setting("evaluation_resize", "auto") == "auto"
