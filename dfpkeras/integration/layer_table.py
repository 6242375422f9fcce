"""The documentation's table of layers: ``python -m dfpkeras.integration.layer_table``."""

from dfpkeras.integration.registry import families


def layer_table():
    """Returns the table in Markdown, from what the families declare."""
    rows = [(family.layers, family.computation) for family in families()]
    lines = ["| Layer | Under dfp16 |", "|---|---|"]
    return "\n".join([*lines, *(f"| {layers} | {what} |" for layers, what in rows)])


if __name__ == "__main__":
    print(layer_table())
