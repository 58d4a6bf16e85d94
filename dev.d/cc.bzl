"""The C++ rules that all of ringcow uses: with precompiled headers, where the compiler is clang."""

def _with_precompiled(rule, precompiled, kwargs):
    deps = kwargs.pop("deps", [])
    copts = kwargs.pop("copts", [])
    if type(kwargs.get("srcs")) == "list" and kwargs["srcs"]:
        deps = deps + select({"//dev.d:gcc": [], "//conditions:default": [precompiled]})
        copts = copts + select({
            "//dev.d:gcc": [],
            "//conditions:default": ["-include-pch", "$(PRECOMPILED)"],
        })
        kwargs["toolchains"] = [precompiled]
    rule(deps = deps, copts = copts, **kwargs)

def cc_library(**kwargs):
    _with_precompiled(native.cc_library, "//dev.d:precompiled", kwargs)

def cc_binary(**kwargs):
    _with_precompiled(native.cc_binary, "//dev.d:precompiled", kwargs)

def cc_test(**kwargs):
    _with_precompiled(native.cc_test, "//dev.d:precompiled_test", kwargs)
