#include "ood/members.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>

using namespace ood;

namespace {

std::string option(const Detector& detector, const char* name) {
  const auto options = detector.options();
  return to_text(std::ranges::find(options, name, &OptionInfo::name)->value);
}

}  // namespace

TEST_CASE("members: names, and options in parentheses") {
  const auto members = members_of("energy+knn(k=7,normalize=false)+conjnorm(preset=cifar10)");
  REQUIRE(members.size() == 3);
  CHECK(members[0]->name() == "energy");
  CHECK(members[1]->name() == "knn");
  CHECK(option(*members[1], "k") == "7");
  CHECK(option(*members[1], "normalize") == "false");
  CHECK(option(*members[2], "p") == "2.2");
}

TEST_CASE("members: made of others themselves") {
  const auto members = members_of("fusion(detectors=energy+knn(k=3),rule=minimum)+msp");
  REQUIRE(members.size() == 2);
  CHECK(option(*members[0], "detectors") == "energy+knn(k=3)");
  CHECK(option(*members[0], "rule") == "minimum");
}

TEST_CASE("members: what is no detector is an error that says so") {
  const auto message = [](const char* text) {
    try {
      members_of(text);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(message("energy+nonsense").starts_with("unknown detector nonsense, expected one of msp"));
  CHECK(message("").starts_with("unknown detector , expected one of msp"));
  CHECK(message("energy+").starts_with("unknown detector , expected one of msp"));
  CHECK(message("knn(k=7") == "knn(k=7 is no detector, expected name or name(option=value,...)");
  CHECK(message("knn(k)") == "knn(k) is no detector, expected name or name(option=value,...)");
  CHECK(message("knn()") == "knn() is no detector, expected name or name(option=value,...)");
  CHECK(message("knn(k=0)") == "knn: option k has 0, expected a whole number, 1 or more");
  CHECK(message("knn(kk=1)").starts_with("knn: unknown option kk, expected one of k"));
}

TEST_CASE("members: a copy is another detector") {
  const Member one("knn(k=3)");
  Member two = one;
  two->set_options({{"k", Index{4}}});
  CHECK(option(*one, "k") == "3");
  CHECK(option(*two, "k") == "4");
}
