"""The C++ rules that all of ringcow uses: with precompiled headers, where .bazelrc asks for them."""

def _with_precompiled(rule, precompiled, kwargs):
    deps = kwargs.pop("deps", [])
    copts = kwargs.pop("copts", [])
    if type(kwargs.get("srcs")) == "list" and kwargs["srcs"]:
        deps = deps + select({
            "//dev.d:with_precompiled": [precompiled],
            "//conditions:default": [],
        })
        copts = copts + select({
            "//dev.d:with_precompiled": ["-include-pch", "$(PRECOMPILED)"],
            "//conditions:default": [],
        })
        kwargs["toolchains"] = select({
            "//dev.d:with_precompiled": [precompiled],
            "//conditions:default": [],
        })
    rule(deps = deps, copts = copts, **kwargs)

def cc_library(**kwargs):
    _with_precompiled(native.cc_library, "//dev.d:precompiled", kwargs)

def cc_binary(**kwargs):
    _with_precompiled(native.cc_binary, "//dev.d:precompiled", kwargs)

def cc_test(**kwargs):
    _with_precompiled(native.cc_test, "//dev.d:precompiled_test", kwargs)
