#ifndef RINGCOW_QCOW2_PASS_DISCARD_OPTIONS_H_
#define RINGCOW_QCOW2_PASS_DISCARD_OPTIONS_H_

namespace ringcow {

// Whose clusters give their space back to the host when nothing refers to them any more: QEMU's
// pass-discard-*, and its defaults. Others keep it, to be used again.
struct PassDiscardOptions {
  bool request = true;   // that the guest discarded
  bool snapshot = true;  // that only a snapshot had which is deleted, or what another one replaces
  bool other = false;    // that something else took the place of
};

}  // namespace ringcow

#endif  // RINGCOW_QCOW2_PASS_DISCARD_OPTIONS_H_
