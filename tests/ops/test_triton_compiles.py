"""Triton's kernels are translated to machine code for several generations of cards, which needs no card."""

import os

import pytest

from tests.ops.kernels import INTERPRETED

triton = pytest.importorskip("triton")  # it is made for Linux only
pytestmark = pytest.mark.skipif(INTERPRETED or os.name == "nt", reason="the interpreter compiles nothing")

POINTERS = {"logits", "log_partition", "losses", "at_corners", "weights", "floor", "wide", "total"}
NUMBERS = {"kept", "scale"}


def kernels():
    from segmenter_pl.ops import triton_cross_entropy, triton_scores

    loss = {"STRIDE": 16, "ROWS": 2, "COLUMNS": 16, "CLASSES": 32}
    tail = {"PIXELS": 32, "CLASSES": 32}
    return {
        "forward": (triton_cross_entropy._forward_kernel, loss),
        "gradient": (triton_cross_entropy._gradient_kernel, loss),
        "labels": (triton_scores._labels_kernel, tail),
        "probabilities": (triton_scores._probabilities_kernel, tail | {"FIRST": False}),
    }


@pytest.mark.parametrize("ones", [False, True])  # integers that are 1 become part of the code
@pytest.mark.parametrize("capability", [75, 90])
@pytest.mark.parametrize("name", ["forward", "gradient", "labels", "probabilities"])
def test_compiles(name, capability, ones, tmp_path, monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, constants = kernels()[name]
    constants |= {number: 1 for number in ("h", "w", "r", "columns", "classes") if ones and number in kernel.arg_names}
    types = dict.fromkeys(POINTERS, "*fp32") | dict.fromkeys(NUMBERS, "fp32")
    types |= {"target": "*i64" if ones else "*u8", "labels": "*i64"}
    signature = {x: "constexpr" if x in constants else types.get(x, "i32") for x in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": True})
    assert len(compiled.asm["cubin"]) > 1000
