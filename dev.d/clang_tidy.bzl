"""An aspect that runs clang-tidy on every C++ source of the product targets it is applied to.

Being Bazel actions, the runs are parallel, and repeated only when the source, a header it may
include, the flags or the configuration changed. Headers are checked through the sources that
include them (HeaderFilterRegex in .clang-tidy).
"""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _compile_flags(ctx, compilation_context):
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    copts = [ctx.expand_make_variables("copts", copt, {}) for copt in ctx.rule.attr.copts]
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts + copts,
        include_directories = compilation_context.includes,
        quote_include_directories = compilation_context.quote_includes,
        system_include_directories = compilation_context.system_includes,
        preprocessor_defines = depset(transitive = [
            compilation_context.defines,
            compilation_context.local_defines,
        ]),
    )
    return cc_common.get_memory_inefficient_command_line(
        feature_configuration = features,
        action_name = CPP_COMPILE_ACTION_NAME,
        variables = variables,
    )

def _tidy(ctx, source, flags, headers):
    # By its path: a target may have files of one name in several folders.
    name = source.short_path.replace("/", ".")
    report = ctx.actions.declare_file("{}.{}.clang_tidy".format(ctx.label.name, name))
    ctx.actions.run_shell(
        mnemonic = "ClangTidy",
        progress_message = "clang-tidy {}".format(source.short_path),
        inputs = depset([source, ctx.file._config, ctx.file._plugin], transitive = [headers]),
        outputs = [report],
        # Without its headers the plugin is an empty file.
        # Silent unless it finds something: it counts the warnings of system headers on stderr.
        # The sandbox's path is cut off, so that the places it names can be opened.
        command = """
            report=$1; plugin=$2; shift 2
            if [[ -s $plugin ]]; then set -- "--load=$plugin" "$@"; fi
            clang-tidy-19 --quiet "$@" >"$report" 2>&1 || { sed "s|$PWD/||g" "$report"; exit 1; }
        """,
        use_default_shell_env = True,
        arguments = [
            report.path,
            ctx.file._plugin.path,
            "--config-file=" + ctx.file._config.path,
            source.path,
            "--",
        ] + flags,
    )
    return report

def _clang_tidy_impl(target, ctx):
    if CcInfo not in target or not hasattr(ctx.rule.attr, "srcs"):
        return []

    # Product code only: GoogleTest's macros and headers take most of the time there is, and what a
    # test does wrong shows when it runs.
    if ctx.rule.attr.testonly or ctx.rule.kind == "cc_test":
        return []
    compilation_context = target[CcInfo].compilation_context
    sources = [
        file
        for src in ctx.rule.attr.srcs
        for file in src.files.to_list()
        if file.extension == "cc"
    ]
    flags = _compile_flags(ctx, compilation_context)
    headers = depset(
        [file for src in ctx.rule.attr.srcs for file in src.files.to_list()],
        transitive = [compilation_context.headers],
    )
    return [OutputGroupInfo(clang_tidy = depset([
        _tidy(ctx, source, flags, headers)
        for source in sources
    ]))]

clang_tidy = aspect(
    implementation = _clang_tidy_impl,
    attrs = {
        "_cc_toolchain": attr.label(default = Label("@bazel_tools//tools/cpp:current_cc_toolchain")),
        "_config": attr.label(default = Label("//:.clang-tidy"), allow_single_file = True),
        "_plugin": attr.label(
            default = Label("//dev.d:own_declarations"),
            allow_single_file = True,
            cfg = "host",
        ),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
