"""`pip install .` without an extra: kernels, but no Keras backend."""

import json

import numpy as np

PROGRAM = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "jax", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import numpy as np
import dfpkeras
x = dfpkeras.quantize(np.arange(12, dtype="float32").reshape(3, 4))
y = dfpkeras.kernels.matmul(x, dfpkeras.quantize(np.ones((4, 2), "float32")))
said = []
for name in ("report", "layers", "policy", "training", "float32_only", "nothing"):
    try:
        getattr(dfpkeras, name)
    except (ImportError, AttributeError) as error:
        said.append(f"{type(error).__name__}: {error}")
print(json.dumps([y.tolist(), said]))
"""


def test_kernels_need_no_backend(run_python):
    result = run_python(PROGRAM)
    assert result.returncode == 0, result.stderr
    product, said = json.loads(result.stdout)
    np.testing.assert_array_equal(product, [[6, 6], [22, 22], [38, 38]])
    assert said[0] == (
        "ModuleNotFoundError: dfpkeras.report needs Keras with its TensorFlow backend, and "
        'tensorflow is not installed: pip install "dfpkeras[tensorflow]"'
    )
    assert all("is not installed" in sentence for sentence in said[:-1])
    assert said[-1] == "AttributeError: module 'dfpkeras' has no attribute 'nothing'"
