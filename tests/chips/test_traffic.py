"""Bytes that a program moves, read in its text."""

# ruff: noqa: E501 - programs have long lines

import pytest

from hybrid_jax.chips.traffic import array_bytes, count_kernels
from hybrid_jax.profiling.hlo import parse_program

# Two steps of a loop: a product that calls a library, an elementwise kernel, an update
# of one row of many, a loop of three rounds, and what moves nothing.
GPU = """\
HloModule jit_train, entry_computation_layout={()->f32[]}

%fused_add (p0: f32[8,4], p1: f32[4]) -> f32[8,4] {
  %p0 = f32[8,4]{1,0} parameter(0)
  %p1 = f32[4]{0} parameter(1)
  %b = f32[8,4]{1,0} broadcast(%p1), dimensions={1}
  ROOT %a = f32[8,4]{1,0} add(%p0, %b), metadata={op_name="jit(f)/stem/add"}
}

%fused_update (rows: f32[100,4], row: f32[1,4], i: s32[]) -> f32[100,4] {
  %rows = f32[100,4]{1,0} parameter(0)
  %row = f32[1,4]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %u = f32[100,4]{1,0} dynamic-update-slice(%rows, %row, %i, %zero)
}

%inner (q: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %q = (s32[], f32[8,4]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%q), index=0
  %m = f32[8,4]{1,0} get-tuple-element(%q), index=1
  %neg = f32[8,4]{1,0} negate(%m), metadata={op_name="jit(f)/stage1_block1/neg"}
  ROOT %t1 = (s32[], f32[8,4]{1,0}) tuple(%n, %neg)
}

%until (q: (s32[], f32[8,4])) -> pred[] {
  %q = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

%step (s: (s32[], f32[8,4], f32[100,4])) -> (s32[], f32[8,4], f32[100,4]) {
  %s = (s32[], f32[8,4]{1,0}, f32[100,4]{1,0}) parameter(0)
  %i1 = s32[] get-tuple-element(%s), index=0
  %x = f32[8,4]{1,0} get-tuple-element(%s), index=1
  %table = f32[100,4]{1,0} get-tuple-element(%s), index=2
  %w = f32[4,4]{1,0} constant({...})
  %gemm = (f32[8,4]{1,0}, s8[4096]{0}) custom-call(%x, %w), custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/head/dot_general"}
  %y = f32[8,4]{1,0} get-tuple-element(%gemm), index=0
  %bias = f32[4]{0} constant({...})
  %sum = f32[8,4]{1,0} fusion(%y, %bias), kind=kLoop, calls=%fused_add
  %row1 = f32[1,4]{1,0} slice(%sum), slice={[0:1], [0:4]}
  %new = f32[100,4]{1,0} fusion(%table, %row1, %i1), kind=kLoop, calls=%fused_update
  %state = (s32[], f32[8,4]{1,0}) tuple(%i1, %sum)
  %loop = (s32[], f32[8,4]{1,0}) while(%state), condition=%until, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %z = f32[8,4]{1,0} get-tuple-element(%loop), index=1
  ROOT %t2 = (s32[], f32[8,4]{1,0}, f32[100,4]{1,0}) tuple(%i1, %z, %new)
}

ENTRY %main (a: f32[8,4], c: f32[100,4]) -> f32[8,4] {
  %a0 = f32[8,4]{1,0} parameter(0)
  %c0 = f32[100,4]{1,0} parameter(1)
  %k = s32[] constant(0)
  %before = f32[8,4]{1,0} copy(%a0)
  %first = (s32[], f32[8,4]{1,0}, f32[100,4]{1,0}) tuple(%k, %before, %c0)
  %steps = (s32[], f32[8,4]{1,0}, f32[100,4]{1,0}) while(%first), condition=%until, body=%step
  ROOT %out = f32[8,4]{1,0} get-tuple-element(%steps), index=1
}
"""

TPU = """\
HloModule jit_infer

ENTRY %main (a: bf16[3,100]) -> bf16[3,100] {
  %a = bf16[3,100]{1,0:T(8,128)(2,1)} parameter(0)
  %start = (bf16[3,100]{1,0:T(8,128)(2,1)S(1)}, bf16[3,100]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%a)
  %near = bf16[3,100]{1,0:T(8,128)(2,1)S(1)} copy-done(%start)
  %n = bf16[3,100]{1,0:T(8,128)(2,1)S(1)} negate(%near)
  ROOT %c = bf16[3,100]{1,0:T(8,128)(2,1)} add(%n, %near)
}
"""
MAP, ROW = 8 * 4 * 4, 4 * 4


def test_kernels_of_a_step_are_counted_with_what_they_read_and_write():
    found = {
        kernel.instruction.name: (kernel.kind, kernel.bytes, kernel.runs)
        for kernel in count_kernels(parse_program(GPU))
    }
    assert found == {
        "gemm": ("product", 2 * MAP + 4 * ROW, 1),  # without the library's scratch
        "sum": ("fusion", 2 * MAP + ROW, 1),
        "row1": ("slice", 2 * ROW, 1),  # not the whole of what is sliced
        "new": ("fusion", 2 * ROW + 4, 1),  # in place
        "neg": ("negate", 2 * MAP, 3),
    }


def test_a_fusion_is_of_the_part_that_its_result_belongs_to():
    kernels = {k.instruction.name: k for k in count_kernels(parse_program(GPU))}
    parts = [kernels[name].instruction.part for name in ("gemm", "sum", "neg")]
    assert parts == ["head", "stem", "stage1"]


def test_memory_on_the_chip_is_free_and_tiles_are_padded():
    kernels = count_kernels(parse_program(TPU))
    tile, numbers = 8 * 128 * 2, 3 * 100 * 2
    assert [(k.instruction.name, k.bytes, k.numbers) for k in kernels] == [
        ("start", tile, numbers),
        ("n", 0, 0),
        ("c", tile, numbers),
    ]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("bf16[2,3]{1,0}", 12),
        ("(f32[2]{0}, s8[5]{0})", 13),
        ("pred[7]{0}", 7),
        ("f8e4m3fn[4]{0}", 4),
        ("u4[6]{0}", 3),
        ("f32[9,1]{0,1:T(1,128)}", 128 * 4),  # the last axis is the major one
        ("f32[9,200]{1,0:T(8,128)}", 16 * 256 * 4),
        ("f32[9,200]{1,0:T(8,128)S(1)}", 0),
        ("token[]", 0),
    ],
)
def test_bytes_of_arrays(shape, size):
    assert array_bytes(shape) == size
