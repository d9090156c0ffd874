#pragma once

namespace ood {

/// While it lives, OpenMP code called from this thread (oneDNN) uses one thread, so that its
/// results cannot depend on how many there are.
class SingleThreaded {
 public:
  SingleThreaded();
  ~SingleThreaded();
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  int before_;
};

}  // namespace ood
