"""Defines the labels of one upstream Abseil package."""

def absl_package(names):
    """Makes each name a public target that links the whole of Debian's Abseil.

    Args:
      names: the targets of the upstream package that have a header in Debian's version.
    """
    for name in names:
        native.cc_library(
            name = name,
            visibility = ["//visibility:public"],
            deps = ["//:all"],
        )
