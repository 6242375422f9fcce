"""What a monitor records of a step."""

import typing


class Row(typing.NamedTuple):
    """One tensor, or one product, of a layer in a sampled step: a row of monitor.csv.

    Attributes:
        step: int, the optimizer's number of steps after this one.
        layer: str, its path, as in `dfpkeras.report`.
        role: "activation", "weights" or "gradient" for a tensor, "" for a product.
        direction: "forward", "backward_data" or "backward_weights" for a product, "" for a tensor.
        exponent, largest, zeros, saturated, sqnr_db, useful_bits: of a tensor, see
            `dfpkeras.kernels.measurement.Measurement`; None for a product.
        noise: "measured" or "modelled", where `sqnr_db` comes from; "" for a product.
        algorithm: str, of a product; "" for a tensor.
        run_length: float, mean number of products that are summed in INT32; None for a tensor.
        flushes: float, mean number of such sums that are added in FP32 for a number of the result;
            None for a tensor.
    """

    step: int
    layer: str
    role: str
    direction: str
    exponent: int | None = None
    largest: float | None = None
    zeros: float | None = None
    saturated: float | None = None
    sqnr_db: float | None = None
    noise: str = ""
    useful_bits: float | None = None
    algorithm: str = ""
    run_length: float | None = None
    flushes: float | None = None


def row_of_tensor(step, layer, role, measurement):
    """The `Row` of a `Measurement`."""
    m = measurement
    return Row(
        step,
        layer,
        role,
        direction="",
        exponent=m.exponent,
        largest=m.largest,
        zeros=m.zeros,
        saturated=m.saturated,
        sqnr_db=m.sqnr_db,
        noise="measured" if m.is_measured else "modelled",
        useful_bits=m.useful_bits,
    )


def row_of_product(step, layer, direction, algorithms, counts):
    """The `Row` of the products of a layer in one direction.

    Args:
        step, layer, direction: as in `Row`.
        algorithms: names, in the order in which they were used.
        counts: (results, runs, pairs), sums of what `dfpkeras._native.last_run_counts` returned.
    """
    results, runs, pairs = counts
    return Row(
        step,
        layer,
        role="",
        direction=direction,
        algorithm="+".join(dict.fromkeys(algorithms)),
        run_length=2 * pairs / runs if runs else None,
        flushes=runs / results if results else None,
    )


#: The columns that are numbers, and what reads them.
NUMBERS = {
    "step": int,
    "exponent": int,
    "largest": float,
    "zeros": float,
    "saturated": float,
    "sqnr_db": float,
    "useful_bits": float,
    "run_length": float,
    "flushes": float,
}
#: What a tensor and a product have, among them.
OF_TENSOR = ("exponent", "largest", "zeros", "saturated", "sqnr_db", "useful_bits")
OF_PRODUCT = ("run_length", "flushes")

ROLES = ("activation", "weights", "gradient")
