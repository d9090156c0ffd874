/// A program that a benchmark asks to do the same thing elsewhere.
#pragma once

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>

namespace ood::bench {

/// A child process whose standard input and output are one socket to here. It is expected to end
/// when its input does. Where it could not be started, or has ended, nothing can be sent or read.
class Coprocess {
 public:
  Coprocess(const std::string& program, const std::string& argument) {
    std::array<int, 2> ends{};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO})
      posix_spawn_file_actions_adddup2(&actions, ends[1], standard);
    const std::array<char*, 3> arguments = {const_cast<char*>(program.c_str()),
                                            const_cast<char*>(argument.c_str()), nullptr};
    if (posix_spawn(&child_, program.c_str(), &actions, nullptr, arguments.data(), environ) != 0)
      child_ = 0;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    socket_ = ends[0];
    answers_ = fdopen(socket_, "rb");
  }
  Coprocess(const Coprocess&) = delete;
  Coprocess& operator=(const Coprocess&) = delete;
  ~Coprocess() {
    if (answers_ != nullptr) fclose(answers_);  // the end of its input
    if (child_ != 0) waitpid(child_, nullptr, 0);
  }

  /// Sends the bytes of a string, vector or matrix. False if nobody is there to read them.
  template <class Array>
  bool send(const Array& array) {
    return ::send(socket_, array.data(), bytes(array), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes(array));
  }

  /// The next line of its output without the line's end; empty if there is none.
  std::string read_line() {
    std::string line;
    if (answers_ != nullptr)
      for (int c = 0; (c = std::fgetc(answers_)) != EOF && c != '\n';) line += static_cast<char>(c);
    return line;
  }

  /// Fills a vector or matrix with bytes of its output. False if there are not as many.
  template <class Array>
  bool read(Array& array) {
    return answers_ != nullptr && std::fread(array.data(), bytes(array), 1, answers_) == 1;
  }

 private:
  template <class Array>
  static std::size_t bytes(const Array& array) {
    return static_cast<std::size_t>(array.size()) * sizeof(*array.data());
  }

  pid_t child_ = 0;
  int socket_ = -1;
  std::FILE* answers_ = nullptr;
};

}  // namespace ood::bench
