// A plugin for clang-tidy that keeps its checks to our own declarations. It would else match each
// of them against all of the system's headers too, which takes four fifths of its time, and drop
// what it finds there.

#include <memory>
#include <string>
#include <vector>

#include "clang/AST/ASTConsumer.h"
#include "clang/AST/ASTContext.h"
#include "clang/Basic/SourceManager.h"
#include "clang/Frontend/CompilerInstance.h"
#include "clang/Frontend/FrontendPluginRegistry.h"

namespace {

class OwnDeclarations : public clang::ASTConsumer {
 public:
  void HandleTranslationUnit(clang::ASTContext& context) override {
    const clang::SourceManager& sources = context.getSourceManager();
    std::vector<clang::Decl*> own;
    // What is precompiled is of a layer below, whose own sources are looked at with it.
    for (clang::Decl* declaration : context.getTranslationUnitDecl()->noload_decls()) {
      if (declaration->isFromASTFile()) continue;
      if (!sources.isInSystemHeader(declaration->getLocation())) own.push_back(declaration);
    }
    context.setTraversalScope(own);
  }
};

// Loaded is enough: it goes before whatever else is done with a translation unit.
class OwnDeclarationsFirst : public clang::PluginASTAction {
 protected:
  std::unique_ptr<clang::ASTConsumer> CreateASTConsumer(clang::CompilerInstance& /*compiler*/,
                                                        llvm::StringRef /*file*/) override {
    return std::make_unique<OwnDeclarations>();
  }
  bool ParseArgs(const clang::CompilerInstance& /*compiler*/,
                 const std::vector<std::string>& /*arguments*/) override {
    return true;
  }
  ActionType getActionType() override { return AddBeforeMainAction; }
};

const clang::FrontendPluginRegistry::Add<OwnDeclarationsFirst> kOwnDeclarations(
    "own-declarations", "limits what follows to declarations outside of system headers");

}  // namespace
