"""The C++ rules that all of ringcow uses: with precompiled headers, where .bazelrc asks for them."""

# Which of precompiled/ a package's sources are compiled with: headers of the layers below it, never
# its own. The first that matches.
_LAYERS = [
    ("engine", "base"),
    ("cache", "engine"),
    ("qcow2/", "engine"),
    ("qcow2", "format"),
    ("", "image"),
]

def _layer():
    for package, layer in _LAYERS:
        if native.package_name().startswith(package):
            return layer
    return None

def _with_precompiled(rule, suffix, kwargs):
    deps = kwargs.pop("deps", [])
    copts = kwargs.pop("copts", [])
    if type(kwargs.get("srcs")) == "list" and kwargs["srcs"]:
        precompiled = "//dev.d/precompiled:" + _layer() + suffix
        deps = deps + select({
            "//dev.d/precompiled:is_wanted": [precompiled],
            "//conditions:default": [],
        })
        copts = copts + select({
            "//dev.d/precompiled:is_wanted": ["-include-pch", "$(PRECOMPILED)"],
            "//conditions:default": [],
        })
        kwargs["toolchains"] = select({
            "//dev.d/precompiled:is_wanted": [precompiled],
            "//conditions:default": [],
        })
    rule(deps = deps, copts = copts, **kwargs)

def cc_library(**kwargs):
    _with_precompiled(native.cc_library, "", kwargs)

def cc_binary(**kwargs):
    _with_precompiled(native.cc_binary, "", kwargs)

def cc_test(**kwargs):
    _with_precompiled(native.cc_test, "_test", kwargs)
