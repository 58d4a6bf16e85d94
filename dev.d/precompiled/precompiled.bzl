"""A rule that parses headers once for all sources that are compiled with its result.

Who has the rule among its deps and its toolchains compiles with -include-pch $(PRECOMPILED). Only
for clang.
"""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _precompiled_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    below = cc_common.merge_cc_infos(
        direct_cc_infos = [dep[CcInfo] for dep in ctx.attr.deps],
    ).compilation_context
    precompiled = ctx.actions.declare_file(ctx.label.name + ".pch")
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts,
        source_file = "-",
        output_file = precompiled.path,
        system_include_directories = below.system_includes,
        preprocessor_defines = below.defines,
    )
    flags = cc_common.get_memory_inefficient_command_line(
        feature_configuration = features,
        action_name = CPP_COMPILE_ACTION_NAME,
        variables = variables,
    )
    compiler = cc_common.get_tool_for_action(
        feature_configuration = features,
        action_name = CPP_COMPILE_ACTION_NAME,
    )
    ctx.actions.run_shell(
        mnemonic = "Precompile",
        # From its standard input: see inline_headers.py.
        command = "{} {} | \"$@\"".format(
            ctx.file._inline_headers.path,
            " ".join([hdr.path for hdr in ctx.files.hdrs]),
        ),
        # What templates are used in headers is found out once, too.
        arguments = [compiler, "-xc++-header", "-fpch-instantiate-templates"] + flags,
        inputs = depset(
            ctx.files.hdrs + [ctx.file._inline_headers],
            transitive = [toolchain.all_files, below.headers],
        ),
        outputs = [precompiled],
        use_default_shell_env = True,
    )
    headers = depset([precompiled])
    return [
        DefaultInfo(files = depset([precompiled])),
        CcInfo(compilation_context = cc_common.create_compilation_context(headers = headers)),
        platform_common.TemplateVariableInfo({"PRECOMPILED": precompiled.path}),
    ]

precompiled = rule(
    implementation = _precompiled_impl,
    attrs = {
        # In this order.
        "hdrs": attr.label_list(allow_files = [".h"], mandatory = True),
        # Whose headers these include.
        "deps": attr.label_list(providers = [CcInfo]),
        "_cc_toolchain": attr.label(default = Label("@bazel_tools//tools/cpp:current_cc_toolchain")),
        "_inline_headers": attr.label(
            default = Label("//dev.d/precompiled:inline_headers.py"),
            allow_single_file = True,
        ),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
