"""Programs that are compiled in threads, and what they share in the cache."""

import secrets
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.ops.backend import reference_implementations
from hybrid_jax.programs import compile as compiling
from hybrid_jax.programs.compile import THREADS, Program, compiler_threads
from tests.training.test_step import make_task

VECTOR = jax.ShapeDtypeStruct((3,), jnp.float32)


def test_a_program_is_compiled_in_a_thread_and_knows_its_shapes():
    program = Program(jax.jit(lambda x: {"sum": x.sum(), "twice": 2 * x}).trace, VECTOR)
    assert program.shapes["twice"].shape == (3,)
    assert program.trace_seconds > 0 == program.compile_seconds
    with compiler_threads() as threads:
        program.compile(threads)
        found = program(np.arange(3, dtype=np.float32))
    assert float(found["sum"]) == 3
    assert program.compile_seconds > 0


def test_the_second_process_would_find_a_program_in_the_cache():
    number = secrets.randbits(30)  # so that none is there yet

    def make():
        return Program(jax.jit(lambda x: x * number).trace, VECTOR)

    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        with compiler_threads() as threads:
            first = make().compile(threads)
            first.wait()
            second = make().compile(threads)
            second.wait()
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
    assert (first.from_disk_cache, second.from_disk_cache) == (False, True)


def test_a_process_keeps_its_latest_programs(monkeypatch):
    """Programs differ by key, by shapes of arguments, and by form of operations."""
    monkeypatch.setattr(compiling, "PROGRAM_CACHE", compiling.ProgramCache(2))
    ran = []

    def make(factor, shape=VECTOR, key="f"):
        program = Program(
            jax.jit(lambda x: x * factor).trace, shape, key=key and (key, factor)
        )
        with compiler_threads() as threads:
            program.compile(threads)
            ran.append(float(program(np.ones(shape.shape, np.float32))[0]))
        return program

    first, second = make(2), make(2)
    assert (first.reused, second.reused, ran) == (False, True, [2, 2])
    assert second.shapes == first.shapes
    assert second.trace_seconds == second.compile_seconds == 0
    assert not make(3).reused  # another function
    longer = jax.ShapeDtypeStruct((4,), jnp.float32)
    assert not make(2, longer).reused  # other arguments
    assert not make(2).reused  # two others came since
    with reference_implementations():
        assert not make(2).reused  # another form
    assert not make(2, key=None).reused
    assert not make(2, key=None).reused
    assert ran == [2, 2, 3, 2, 2, 2, 2, 2]
    assert make(2).reused
    compiling.PROGRAM_CACHE.clear()
    assert not make(2).reused


def test_what_has_not_begun_when_a_run_fails_never_does():
    held, begun = threading.Event(), []

    def busy():
        held.wait(10)

    with pytest.raises(KeyError), compiler_threads() as threads:
        for _ in range(THREADS):
            threads.submit(busy)
        threads.submit(begun.append, 1)
        threading.Timer(0.1, held.set).start()
        raise KeyError
    assert not begun
    assert not [t for t in threading.enumerate() if t.name.startswith("compiler")]


def test_statistics_and_class_weights_are_no_part_of_a_program():
    """So that folds and subsets of one size share what is compiled."""
    images = jax.ShapeDtypeStruct((2, 16, 16, 1), jnp.uint8)

    def lowered(mean, weights):
        task = make_task().replace(mean=mean, class_weights=weights)
        step = jax.jit(lambda task, x: ((x - task.mean) * task.class_weights[0]).sum())
        return step.lower(task, images).as_text()

    shapes = [jax.ShapeDtypeStruct((n,), jnp.float32) for n in (1, 3)]
    texts = {lowered(jnp.float32([n]), jnp.float32([n] * 3)) for n in (1, 2)}
    assert texts == {lowered(*shapes)}


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "CPU_OPTIONS", {"xla_of_another_version": True})
    with compiler_threads() as threads:
        program = Program(jax.jit(jnp.sin).trace, VECTOR).compile(threads)
        assert program(jnp.zeros(3)).tolist() == [0, 0, 0]


def test_options_are_those_of_the_platform_that_is_compiled_for(monkeypatch):
    """Not of the thread's context, which knows of no other platform."""
    given = []

    class Lowered:
        def compile(self, options=None):
            given.append(options)

    class Traced:
        out_info = VECTOR

        def lower(self):
            return Lowered()

    with reference_implementations(), compiler_threads() as threads:
        Program(lambda *_: Traced(), VECTOR).compile(threads).wait()
    with compiler_threads() as threads:
        Program(lambda *_: Traced(), VECTOR).compile(threads).wait()
    assert given == [None, compiling.CPU_OPTIONS]


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux's C library")
def test_memory_that_a_compiler_freed_goes_back_to_the_kernel():
    code = (
        "import numpy as np; from hybrid_jax import runtime;"
        "rss = lambda: int(open('/proc/self/statm').read().split()[1]);"
        # Pieces below the size that the C library maps one by one.
        "pieces = [np.ones(8_000) for _ in range(4_000)]; last = np.ones(8_000);"
        "del pieces; full = rss(); runtime.release_unused_memory();"
        "print(full - rss())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert int(done.stdout) > 40_000, done.stderr  # pages of 4 kB, of 62,500
