"""The compiled module; only recent versions of setuptools could read this from pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "reconciler_native",
            ["pieces.c"],
            depends=["lanes.h", "sha_ni.h"],
            extra_compile_args=["-O3", "-fno-strict-aliasing", "-Wno-psabi"],
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
